"""The tests in `inside/`, run with the packages of the training image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import inside
from tests.support.portfolio_rl import images

FOLDER = Path(__file__).parent / "inside"


@pytest.mark.timeout(inside.NEVER)
def test_with_the_images_packages(trainer: Path) -> None:
    program, processor = images.compiled()
    inside.run(trainer, program, FOLDER, **processor)
