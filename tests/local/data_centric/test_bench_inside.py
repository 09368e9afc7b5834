"""The tests in `inside/`, run with the packages of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import inside
from tests.support.data_centric.training_image import SUBSET_TRAINING
from tooling import envs
from tooling.containers import import_path

FOLDER = Path(__file__).parent / "inside"


@pytest.mark.timeout(inside.NEVER)
def test_with_the_benchmarks_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(envs.ROOT)
    inside.run(envs.environment("benchmarks-data_centric"), import_path(SUBSET_TRAINING), FOLDER)
