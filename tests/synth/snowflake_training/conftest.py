"""The templates of snowflake_training: `dev`, `prod` and, with other settings, `vpc`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.synth.conftest import template
from tests.synth.template import Template

NAME = "snowflake_training"


@pytest.fixture(scope="session")
def dev(assembly: Path) -> Template:
    return template(assembly, NAME)


@pytest.fixture(scope="session")
def prod(prod_assembly: Path) -> Template:
    return template(prod_assembly, NAME, "prod")


@pytest.fixture(scope="session")
def vpc(chosen_assembly: Path) -> Template:
    """The template of a stack in a VPC, with an existing secret, a KMS key and an instance type with local
    disks."""
    return template(chosen_assembly, NAME)
