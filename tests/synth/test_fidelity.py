"""The file `local/fidelity.toml` covers all resource types and actions of the templates."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import architectures
from documentation import fidelity
from tests.synth.conftest import template
from tests.synth.template import listed
from tooling import envs

TYPE = re.compile(r'"(AWS::\w+::\w+)"')
ACTION = re.compile(r"[a-z0-9-]+:\w+\*?")
"""Actions of a service, without `kms:*`, with which a key's policy only refers to IAM."""

RENAMED = re.compile(r"apigateway:|s3:|lambda:InvokeFunction|sagemaker:(CallMlflowAppApi|InvokeEndpoint)")
"""Actions that are not named after an operation."""
MODELS = {"states": ("stepfunctions",), "dynamodb": ("dynamodb", "dynamodbstreams")}
"""Names of services in botocore, if they are not the prefix of the service's actions."""


@pytest.fixture(scope="session")
def templates(assembly: Path, prod_assembly: Path, chosen_assembly: Path) -> list[dict[str, Any]]:
    """The templates of all architectures: dev, prod, and dev with the settings of `chosen.json`."""
    found = ((assembly, "dev"), (prod_assembly, "prod"), (chosen_assembly, "dev"))
    return [template(folder, name, env) for folder, env in found for name in architectures.BY_NAME]


def allowed(value: Any) -> Iterator[str]:
    """Yield the actions that the policies in a template allow."""
    if isinstance(value, dict):
        if value.get("Effect") == "Allow":
            yield from listed(value["Action"])
        for inner in value.values():
            yield from allowed(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from allowed(inner)


def test_every_type_of_the_templates_has_an_entry(templates: list[dict[str, Any]]) -> None:
    types = {resource["Type"] for each in templates for resource in each["Resources"].values()}
    assert sorted(types - set(fidelity.read())) == []


def test_every_type_of_the_local_clouds_code_has_an_entry() -> None:
    files = (envs.ROOT / "local").rglob("*.py")
    types = {name for path in files for name in TYPE.findall(path.read_text())}
    assert sorted(types - set(fidelity.read())) == []


def test_entries_of_types_are_in_templates_or_tests(templates: list[dict[str, Any]]) -> None:
    # given the resource types in the templates and in the local cloud's code
    types = {resource["Type"] for each in templates for resource in each["Resources"].values()}
    for path in (envs.ROOT / "local").rglob("*.py"):
        types |= set(TYPE.findall(path.read_text()))
    # then every entry of another resource type names a test file that contains the type
    others = {name: entry for name, entry in fidelity.read().items() if fidelity.is_type(name)}
    stale = [
        name
        for name, entry in others.items()
        if name not in types and name not in (envs.ROOT / entry.test.partition("::")[0]).read_text()
    ]
    assert stale == []


def test_every_action_of_the_policies_has_an_entry(templates: list[dict[str, Any]]) -> None:
    actions = {action for action in allowed(templates) if ACTION.fullmatch(action)}
    entries = fidelity.read()
    assert len(actions) > 100
    assert sorted(action for action in actions if not fnmatch.filter(entries, action)) == []


def test_entries_of_calls_are_operations_or_actions_of_policies(templates: list[dict[str, Any]]) -> None:
    # given the entries of services whose IAM actions have the names of their API operations
    names = [name for name in fidelity.read() if not fidelity.is_type(name) and not RENAMED.match(name)]
    # then every entry is an API operation or an action in a policy
    actions = set(allowed(templates))
    stale = []
    for name in names:
        service, _, operation = name.partition(":")
        models = MODELS.get(service, (service,))
        if name not in actions and not any(operation in fidelity.operations(model) for model in models):
            stale.append(name)
    assert stale == []
