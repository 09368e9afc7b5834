"""The images that train on subsets and that examine labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.images.build import build
from tests.support.data_centric.label_image import LABEL_QUALITY
from tests.support.data_centric.training_image import SUBSET_TRAINING
from tooling.containers import CONTAINERS

# run by test_inside.py, with the packages of the image
collect_ignore = ["inside", "inside_label_quality"]


def python(image: Path) -> Path:
    return build(CONTAINERS, image / "Dockerfile").folder / "env" / "bin" / "python"


@pytest.fixture(scope="session")
def trainer() -> Path:
    """The Python of the image that trains."""
    return python(SUBSET_TRAINING)


@pytest.fixture(scope="session")
def examiner() -> Path:
    """The Python of the image that examines labels."""
    return python(LABEL_QUALITY)
