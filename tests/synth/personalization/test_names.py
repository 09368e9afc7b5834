"""Physical names of personalization leave room for suffixes."""

from __future__ import annotations

import re

import pytest
from aws_cdk import App

import groundplan
from settings import load
from tests.synth.conftest import stack_of

NAME = "personalization"
LONGEST = 36
"""Maximum length of a stack's name: a training job's name has up to 63 characters, of which 27 follow the
stack's name."""


def test_a_stack_name_without_room_for_its_jobs_is_refused() -> None:
    stack_of(App(), NAME, load({}), id="g" * LONGEST)
    with pytest.raises(groundplan.NameTooLongError, match=re.escape(f"at most {LONGEST} characters")):
        stack_of(App(), NAME, load({}), id="g" * (LONGEST + 1))
