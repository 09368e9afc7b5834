"""The tests in `inside/`, run with the packages of the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import inside
from tests.support.data_centric.training_image import SUBSET_TRAINING

FOLDER = Path(__file__).parent / "inside"


@pytest.mark.timeout(inside.NEVER)
@pytest.mark.parametrize("name", inside.files(FOLDER))
def test_with_the_images_packages(name: str, trainer: Path) -> None:
    inside.run(trainer, SUBSET_TRAINING, FOLDER / name)
