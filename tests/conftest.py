"""Mark every test with its folders and its architecture; make the packages of the images importable."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import architectures
from tooling import envs

TESTS = Path(__file__).parent
CONTAINERS = TESTS.parent / "containers"
# `support` has helpers, and an example architecture whose tests run only in a copy of the project
collect_ignore = ["support"]
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

# The images' modules; tests in this process import those that need only packages of the environment `app`
sys.path += map(str, [CONTAINERS, *sorted(path.parent for path in CONTAINERS.glob("*/*/Dockerfile"))])

MakeOnce = Callable[[str, Callable[[Path], object]], Path]


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in (KINDS | {each.name: each.title for each in architectures.ALL}).items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its folders and the architecture in its parameters; order the tests.

    Directories whose files take longest come first, so that no worker is left with a long file at the end.
    """
    for item in items:
        given = getattr(item, "callspec", None)
        values = [value for value in given.params.values() if isinstance(value, str)] if given else []
        for word in {*item.path.relative_to(TESTS).parts[:-1], *values}:
            if word in KINDS or word in architectures.BY_NAME:
                item.add_marker(word)
    longest = list(reversed(KINDS))
    items.sort(key=lambda item: longest.index(item.path.relative_to(TESTS).parts[0]))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MakeOnce:
    """`made_once(name, make)` returns a folder that `make` fills, once for all workers of pytest-xdist.

    No test may write to it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent  # the parent folder of all workers' folders

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, whole = shared / "once" / name, shared / "once" / f"{name}.whole"
        with envs.locked(shared / "once" / f"{name}.lock"):
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)  # another worker may have failed halfway
                folder.mkdir()
                make(folder)
                whole.touch()
        return folder

    return made
