"""The serving image with a small base model, and adapters to load."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.images.build import build
from local.images.store import Image as BuiltImage
from tests.conftest import MakeOnce
from tests.support.personalization.serving import BUDGET, CONTAINER, Container, pipelines
from tooling.containers import CONTAINERS


@pytest.fixture(scope="session")
def built() -> BuiltImage:
    return build(CONTAINERS, CONTAINER / "Dockerfile")


@pytest.fixture(scope="session")
def made(made_once: MakeOnce) -> Path:
    """Folder with pipelines, adapters, and the pictures that diffusers draws with them."""
    return pipelines(made_once)


@pytest.fixture(scope="module")
def serving(built: BuiltImage, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A serving container with memory for three of the large adapters."""
    # The container must work in a long path with a space and an apostrophe
    folder = tmp_path_factory.mktemp("serving") / "a folder's name" / ("deep" * 20)
    settings = {"GROUNDPLAN_MEMORY": str(BUDGET), "GROUNDPLAN_ADAPTER_BYTES": str(BUDGET)}
    with Container(built, folder, GROUNDPLAN_BASE=str(made / "base"), **settings) as container:
        assert container.ping() in (0, 503)
        yield container.ready()


@pytest.fixture
def container(serving: Container) -> Iterator[Container]:
    """A serving container without a loaded model."""
    yield serving
    for model in serving.call("GET", "/models")[1]["models"]:
        assert serving.unload(model["modelName"]) == 200


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """A copy of an adapter's archive, which tests may change."""
    return shutil.copytree(made / "adapters" / "alice", tmp_path / "archive")
