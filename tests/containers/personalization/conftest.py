"""The serving image with a small base, and adapters to load."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.images.build import build
from local.images.store import Image as BuiltImage
from tests.conftest import MakeOnce
from tests.support.personalization.serving import BUDGET, CONTAINER, Container, write_manifest
from tooling import envs
from tooling.containers import CONTAINERS
from toolkit.identity import identity


@pytest.fixture(scope="session")
def built() -> BuiltImage:
    return build(CONTAINERS, CONTAINER / "Dockerfile")


@pytest.fixture(scope="session")
def made(built: BuiltImage, made_once: MakeOnce) -> Path:
    """Pipelines, adapters and what diffusers itself draws with them."""
    lock = CONTAINER / "requirements.txt"
    steps = [["install", "-r", str(lock), "torch==2.13.0", "accelerate==1.15.0", "peft==0.21.2"]]
    key = hashlib.sha256(lock.read_bytes() + json.dumps(steps).encode()).hexdigest()
    python = envs.make(envs.home() / "envs" / "diffusers", key, "the image's packages and peft", steps)
    script = envs.ROOT / "tests" / "support" / "personalization" / "pipelines.py"
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def make(folder: Path) -> None:
        run = subprocess.run([python, script, folder], env=os.environ | quiet, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-3000:]
        belongs = identity(folder / "base")
        for path in (folder / "adapters").iterdir():
            write_manifest(path, base=belongs)

    return made_once("pipelines", make)


@pytest.fixture(scope="module")
def serving(built: BuiltImage, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """With room for three of the large adapters."""
    # A path as long as a person's may be, and with what else may be in one
    folder = tmp_path_factory.mktemp("serving") / "a folder's name" / ("deep" * 20)
    settings = {"GROUNDPLAN_MEMORY": str(BUDGET), "GROUNDPLAN_ADAPTER_BYTES": str(BUDGET)}
    with Container(built, folder, GROUNDPLAN_BASE=str(made / "base"), **settings) as container:
        assert container.ping() in (0, 503)
        yield container.ready()


@pytest.fixture
def container(serving: Container) -> Iterator[Container]:
    """Without any model loaded."""
    yield serving
    for model in serving.call("GET", "/models")[1]["models"]:
        assert serving.unload(model["modelName"]) == 200


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """A copy of an adapter's archive, to spoil."""
    return shutil.copytree(made / "adapters" / "alice", tmp_path / "archive")
