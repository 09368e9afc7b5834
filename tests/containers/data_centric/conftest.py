"""The image that trains on subsets."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.images.build import build
from tests.support.data_centric.training_image import SUBSET_TRAINING
from tooling.containers import CONTAINERS

collect_ignore = ["inside"]  # run by test_inside.py, with the packages of the image


@pytest.fixture(scope="session")
def trainer() -> Path:
    """The Python of the image."""
    return build(CONTAINERS, SUBSET_TRAINING / "Dockerfile").folder / "env" / "bin" / "python"
