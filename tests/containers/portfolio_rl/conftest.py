"""Both images of the architecture, and a model that the one has trained for the other to serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.portfolio_rl import images

collect_ignore = ["inside"]  # run by test_inside.py, with the packages of the image


@pytest.fixture(scope="session")
def trainer() -> Path:
    """The Python of the training image."""
    return images.python(images.TRAIN)


@pytest.fixture(scope="session")
def server_python() -> Path:
    """The Python of the serving image."""
    return images.python(images.SERVE)


@pytest.fixture(scope="session")
def trained(trainer: Path, tmp_path_factory: pytest.TempPathFactory) -> images.Job:
    """A job of the method `fitted` on `strict`."""
    job = images.train(
        tmp_path_factory.mktemp("portfolio") / "job", trainer, images.QUICK | {"variant": "strict"}
    )
    assert job.code == 0, job.log[-3000:]
    return job
