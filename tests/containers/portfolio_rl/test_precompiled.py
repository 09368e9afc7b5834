"""The compiled code in the training image: jobs in its container compile nothing."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from local import namespaces
from local.images.store import Image
from tests.support.portfolio_rl.images import QUICK, TRAIN, Job, built, contained, prepared
from tests.support.portfolio_rl.prices import RULES, history
from tooling import envs

FEW = QUICK | {"observed": "50"}


@pytest.fixture(scope="module")
def image() -> Image:
    if reason := namespaces.unavailable(envs.home(), kept=True):
        pytest.skip(f"images are built without compiled code on this machine: {reason}")
    return built(TRAIN)


def run(image: Image, base: Path) -> tuple[Job, list[str]]:
    """Run a job; return it and the names of the compiled functions that it saved."""
    job = contained(base, image, NUMBA_DEBUG_CACHE="1")
    assert job.code == 0, job.log[-3000:]
    assert "[cache] data loaded" in job.log
    return job, [Path(path).name for path in job.files if path.endswith(".nbc")]


def test_training_and_evaluation_compile_nothing(image: Image, tmp_path: Path) -> None:
    # given a model
    trained, compiled = run(image, prepared(tmp_path / "trained", FEW, {}))
    assert compiled == []
    base = prepared(tmp_path / "job", FEW | {"mode": "evaluate"}, {})
    for side in ("candidate", "champion"):
        (base / "input" / "data" / side).mkdir(parents=True)
        with tarfile.open(base / "input" / "data" / side / "model.tar.gz", "w:gz") as archive:
            for path in (trained.base / "model").iterdir():
                archive.add(path, path.name)
    # when the model is compared with itself
    job, compiled = run(image, base)
    # then
    assert "champion:value=" in job.log
    assert compiled == []


def test_training_on_own_prices_compiles_nothing(image: Image, tmp_path: Path) -> None:
    own = {"rules": {"rules.json": RULES}, "prices": {"prices.csv": history(320)}}
    settings = FEW | {"test_fraction": "0.5", "folds": "2"}
    _, compiled = run(image, prepared(tmp_path / "job", settings, own))
    assert compiled == []


def test_training_with_ppo_compiles_nothing(image: Image, tmp_path: Path) -> None:
    settings = FEW | {"method": "ppo", "episodes": "2400"}
    _, compiled = run(image, prepared(tmp_path / "job", settings, {}))
    assert compiled == []
