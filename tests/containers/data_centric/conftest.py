"""The Python interpreters of two images: one image trains on subsets of the data, the other finds label
errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.images.build import build
from tests.support.data_centric.label_image import LABEL_QUALITY
from tests.support.data_centric.training_image import SUBSET_TRAINING
from tooling.containers import CONTAINERS

# test_inside.py runs the tests in each of these folders with the packages of the folder's image
collect_ignore = ["inside", "inside_label_quality"]


def python(image: Path) -> Path:
    return build(CONTAINERS, image / "Dockerfile").folder / "env" / "bin" / "python"


@pytest.fixture(scope="session")
def trainer() -> Path:
    """Path of the Python interpreter in the image that trains on subsets of the data."""
    return python(SUBSET_TRAINING)


@pytest.fixture(scope="session")
def examiner() -> Path:
    """Path of the Python interpreter in the image that finds label errors."""
    return python(LABEL_QUALITY)
