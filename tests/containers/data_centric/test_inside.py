"""The tests in `inside/` and `inside_label_quality/`, run with the packages of their images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import inside
from tests.support.data_centric.label_image import LABEL_QUALITY
from tests.support.data_centric.training_image import SUBSET_TRAINING
from tooling.containers import import_path

TRAINING, LABELS = (Path(__file__).parent / name for name in ("inside", "inside_label_quality"))


@pytest.mark.timeout(inside.NEVER)
def test_with_the_training_images_packages(trainer: Path) -> None:
    inside.run(trainer, import_path(SUBSET_TRAINING), TRAINING)


@pytest.mark.timeout(inside.NEVER)
def test_with_the_label_images_packages(examiner: Path) -> None:
    inside.run(examiner, import_path(LABEL_QUALITY), LABELS)
