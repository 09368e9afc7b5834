"""Physical names: two stacks of one kind stand side by side, and a name leaves room for what is appended."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack, Stage

import groundplan
from settings import Settings, load
from settings.personalization import Personalization
from settings.snowflake_training import SnowflakeTraining
from stacks.personalization.stack import PersonalizationStack
from stacks.snowflake_training.stack import SnowflakeTrainingStack
from tests.synth.template import flat

NAMED = {
    "AWS::SageMaker::Endpoint": "EndpointName",
    "AWS::SageMaker::ModelPackageGroup": "ModelPackageGroupName",
    "AWS::SageMaker::NotebookInstance": "NotebookInstanceName",
    "AWS::SageMaker::NotebookInstanceLifecycleConfig": "NotebookInstanceLifecycleConfigName",
    "AWS::StepFunctions::StateMachine": "StateMachineName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::SecretsManager::Secret": "Name",
    "AWS::ApiGatewayV2::Api": "Name",
}
"""The property with the physical name, by type."""


def both(scope: Any, settings: Settings, id: str = "groundplan-dev") -> list[Stack]:
    return [
        SnowflakeTrainingStack(
            scope, f"{id}-snowflake-training", env_name="dev", settings=settings.of(SnowflakeTraining)
        ),
        PersonalizationStack(
            scope, f"{id}-personalization", env_name="dev", settings=settings.of(Personalization)
        ),
    ]


def names(template: Path) -> set[tuple[str, str]]:
    return {
        (resource["Type"], flat(resource["Properties"][NAMED[resource["Type"]]]))
        for resource in json.loads(template.read_text())["Resources"].values()
        if NAMED.get(resource["Type"]) in resource.get("Properties", {})
    }


def test_two_stages_of_one_account_share_no_name(tmp_path: Path) -> None:
    # given the same stacks in two stages; the secret is one that is there already
    app = App(outdir=str(tmp_path))
    settings = load({"snowflake_training.create_secret": "false"})
    for stage in ("blue", "green"):
        both(Stage(app, stage), settings)

    # when
    app.synth()

    # then
    blue, green = (
        set().union(*(names(each) for each in tmp_path.glob(f"assembly-{stage}/*.template.json")))
        for stage in ("blue", "green")
    )
    assert len(blue) == len(green) > 8
    assert not blue & green


def test_a_plain_stacks_names_are_as_they_were(dev: dict[str, Any]) -> None:
    assert {
        flat(resource["Properties"][NAMED[resource["Type"]]])
        for resource in dev["Resources"].values()
        if resource["Type"] in ("AWS::StepFunctions::StateMachine", "AWS::SageMaker::ModelPackageGroup")
    } == {"groundplan-dev-snowflake-training"}


@pytest.mark.parametrize(
    ("make", "longest"),
    [
        (
            lambda app, id: SnowflakeTrainingStack(
                app, id, env_name="dev", settings=load({}).of(SnowflakeTraining)
            ),
            41,
        ),
        (
            lambda app, id: PersonalizationStack(
                app, id, env_name="dev", settings=load({}).of(Personalization)
            ),
            36,
        ),
    ],
    ids=["snowflake_training", "personalization"],
)
def test_a_stack_name_without_room_for_its_jobs_is_refused(make: Callable[..., Any], longest: int) -> None:
    make(App(), "g" * longest)
    with pytest.raises(groundplan.NameTooLongError, match=re.escape(f"at most {longest} characters")):
        make(App(), "g" * (longest + 1))


def test_the_settings_allow_no_endpoint_name_that_the_stack_refuses() -> None:
    for architecture, longest in {"snowflake_training": 40, "personalization": 36}.items():
        chosen = load({f"{architecture}.endpoint_name": "g" * longest})
        stack = both(App(), chosen)[0 if architecture == "snowflake_training" else 1]
        assert stack
