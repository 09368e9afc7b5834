"""The images of the architecture, and a model that the training image trains for the serving image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.power_bidding import images, prices

collect_ignore = ["inside"]  # test_inside.py runs the tests in `inside/`, with the packages of the image


@pytest.fixture(scope="session")
def trainer() -> Path:
    """Path of the training image's Python interpreter."""
    return images.python(images.TRAIN)


@pytest.fixture(scope="session")
def server_python() -> Path:
    """Path of the serving image's Python interpreter."""
    return images.python(images.SERVE)


@pytest.fixture(scope="session")
def trained(trainer: Path, tmp_path_factory: pytest.TempPathFactory) -> images.Job:
    """A completed training job for one location."""
    base = tmp_path_factory.mktemp("power") / "job"
    job = images.train(base, trainer, images.QUICK, HUB=prices.csv(prices.rows()))
    assert job.code == 0, job.log[-3000:]
    return job


@pytest.fixture(scope="session")
def server(trained: images.Job, server_python: Path) -> Iterator[images.Server]:
    with images.served(trained.base, server_python) as server:
        yield server
