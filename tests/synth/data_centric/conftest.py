"""The templates of data_centric: `dev`, `prod` and, with other settings, `chosen`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.synth.conftest import template
from tests.synth.template import Template

NAME = "data_centric"


@pytest.fixture(scope="session")
def dev(assembly: Path) -> Template:
    return template(assembly, NAME)


@pytest.fixture(scope="session")
def prod(prod_assembly: Path) -> Template:
    return template(prod_assembly, NAME, "prod")


@pytest.fixture(scope="session")
def chosen(chosen_assembly: Path) -> Template:
    """The template of a stack in a VPC, with a user's annotation functions, a KMS key, an MLflow app, and
    jobs on a GPU instance type with local disks."""
    return template(chosen_assembly, NAME)
