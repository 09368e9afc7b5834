"""Mark every test with its folders and its architecture; make the packages of the images importable."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import architectures

TESTS = Path(__file__).parent
CONTAINERS = TESTS.parent / "containers"
collect_ignore = ["support"]  # helpers, and a fixture architecture with tests of its own
KINDS = {
    "unit": "functions and classes, without services",
    "synth": "the templates, without network access",
    "containers": "the programs of the images, each in its own environment",
    "local": "the local cloud, and the templates deployed to it",
}

# The tests start hundreds of Python processes, most of them in environments without bytecode. Each would
# compile the same modules again, which takes several times as long as the rest of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Modules that need only packages of the environment `app`
sys.path += map(str, [CONTAINERS, *sorted(path.parent for path in CONTAINERS.glob("*/*/Dockerfile"))])


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in (KINDS | {each.name: each.title for each in architectures.ALL}).items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the markers: folders of the test, and the architecture in its parameters."""
    for item in items:
        given = getattr(item, "callspec", None)
        values = [value for value in given.params.values() if isinstance(value, str)] if given else []
        for word in {*item.path.relative_to(TESTS).parts[:-1], *values}:
            if word in KINDS or word in architectures.BY_NAME:
                item.add_marker(word)
