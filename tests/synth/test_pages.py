"""The generated parts of the documents agree with the synthesized stacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import architectures
from documentation import diagram, pages
from tooling import envs


@pytest.mark.parametrize("name", architectures.BY_NAME)
def test_diagram_is_that_of_the_template(name: str, assembly: Path) -> None:
    # given the diagram in the documentation; the diagram's file also contains the source of the diagram
    picture = (envs.ROOT / "docs" / name / "stack.svg").read_text()
    found = diagram.SOURCE.search(picture)
    # when the diagram is drawn again, then its source is the same; if not, run `make pages`
    template = (assembly / f"{architectures.BY_NAME[name].stack_name('dev')}.template.json").read_text()
    assert found
    assert found[1] == diagram.draw(json.loads(template)).dot()


def role(name: str, action: str, **more: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action} | more
    document = {"Statement": [statement]}
    return {
        name: {"Type": "AWS::IAM::Role", "Properties": {}},
        f"{name}Policy": {
            "Type": "AWS::IAM::Policy",
            "Properties": {"Roles": [{"Ref": name}], "PolicyDocument": document},
        },
    }


def test_arrows_are_the_permissions_of_roles() -> None:
    # given a function whose role may write a table and create training jobs that read a bucket
    jobs = role(
        "JobRole", "s3:GetObject", Resource={"Fn::Join": ["", [{"Fn::GetAtt": ["Data", "Arn"]}, "/*"]]}
    )
    writes = role("FunctionRole", "dynamodb:PutItem", Resource={"Fn::GetAtt": ["Tasks", "Arn"]})
    trains = role("FunctionRole", "sagemaker:CreateTrainingJob", Resource="*")
    passes = role("FunctionRole", "iam:PassRole", Resource={"Fn::GetAtt": ["JobRole", "Arn"]})
    resources = {
        "Data": {"Type": "AWS::S3::Bucket", "Properties": {}},
        "Tasks": {"Type": "AWS::DynamoDB::Table", "Properties": {}},
        "Unused": {"Type": "AWS::S3::Bucket", "Properties": {}},
        "LoadFunction8ADB22C5": {
            "Type": "AWS::Lambda::Function",
            "Properties": {"Role": {"Fn::GetAtt": ["FunctionRole", "Arn"]}},
        },
    }
    resources |= jobs | writes
    resources |= {"TrainPolicy": trains["FunctionRolePolicy"], "PassPolicy": passes["FunctionRolePolicy"]}
    # when
    drawn = diagram.draw({"Resources": resources})
    # then
    assert drawn.arrows == {
        ("LoadFunction8ADB22C5", "Tasks"),
        ("LoadFunction8ADB22C5", "training jobs"),
        ("training jobs", "Data"),
    }
    assert drawn.nodes["LoadFunction8ADB22C5"] == ("Load", "Lambda function", "compute")
    assert '"Unused"' not in drawn.dot()


def test_alarms_on_the_page_are_those_of_the_templates(assembly: Path) -> None:
    # given
    text = pages.OPERATIONS.read_text()
    # when the tables of alarms are written again, then the page is the same; if not, run `make pages`
    for each in architectures.ALL:
        template = json.loads((assembly / f"{each.stack_name('dev')}.template.json").read_text())
        text = pages.with_alarms(text, each.name, pages.alarms(template, each.stack_name("dev")))
    assert text == pages.OPERATIONS.read_text()
