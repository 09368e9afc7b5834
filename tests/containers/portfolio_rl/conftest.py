"""Both images of the architecture, and models that the training image trains for the serving image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.portfolio_rl import images
from tests.support.portfolio_rl.prices import RULES, history
from tooling import envs

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
def trained(trainer: Path, shared: Path) -> images.Job:
    """A completed job that trained with the method `fitted` on the variant `strict`. Tests must not change
    it."""
    return once(shared / "strict", trainer, images.QUICK | {"variant": "strict"})


@pytest.fixture(scope="session")
def trained_on_own_prices(trainer: Path, shared: Path) -> images.Job:
    """A completed job that trained with the method `fitted` on a price history. Tests must not change it."""
    channels = {"prices": {"prices.csv": history()}, "rules": {"rules.json": RULES}}
    return once(shared / "own", trainer, images.QUICK, **channels)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    found = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "portfolio"
    found.mkdir(exist_ok=True)
    return found


def once(base: Path, trainer: Path, hyperparameters: dict[str, str], **channels: Any) -> images.Job:
    """Run a job in the first process that needs it; return the same job in every process."""
    ended = base / "code"
    with envs.locked(base.with_suffix(".lock")):
        if not ended.exists():
            job = images.train(base, trainer, hyperparameters, **channels)
            ended.write_text(str(job.code))
    job = images.Job(base, int(ended.read_text()), (base / "log").read_text())
    assert job.code == 0, job.log[-3000:]
    return job
