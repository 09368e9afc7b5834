"""The templates of data_centric: `dev`, `prod` and, with other settings, `chosen`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App
from aws_cdk.assertions import Template as Assertions

from tests.support.data_centric.app import PREFIX, build
from tests.synth.conftest import CHOSEN, CONTEXT
from tests.synth.template import Template


def synthesized(context: dict[str, Any]) -> Template:
    return dict(Assertions.from_stack(build(App(context=CONTEXT | context))).to_json())


@pytest.fixture(scope="session")
def dev() -> Template:
    return synthesized({})


@pytest.fixture(scope="session")
def prod() -> Template:
    return synthesized({"env": "prod"})


@pytest.fixture(scope="session")
def chosen() -> Template:
    own = json.loads((Path(__file__).parent / "chosen.json").read_text())
    return synthesized({PREFIX + field: value for field, value in (CHOSEN | own).items()})
