"""Physical names of snowflake_training leave room for suffixes."""

from __future__ import annotations

import re

import pytest
from aws_cdk import App

import groundplan
from settings import load
from tests.synth.conftest import stack_of
from tests.synth.template import NAMED, Template, flat

NAME = "snowflake_training"
LONGEST = 41
"""Maximum length of a stack's name: a training job's name has up to 63 characters, of which 22 follow the
stack's name."""


def test_names_of_the_default_stack_are_unchanged(dev: Template) -> None:
    assert {
        flat(resource["Properties"][NAMED[resource["Type"]]])
        for resource in dev["Resources"].values()
        if resource["Type"] in ("AWS::StepFunctions::StateMachine", "AWS::SageMaker::ModelPackageGroup")
    } == {"groundplan-dev-snowflake-training"}


def test_a_stack_name_without_room_for_its_jobs_is_refused() -> None:
    stack_of(App(), NAME, load({}), id="g" * LONGEST)
    with pytest.raises(groundplan.NameTooLongError, match=re.escape(f"at most {LONGEST} characters")):
        stack_of(App(), NAME, load({}), id="g" * (LONGEST + 1))
