"""The tests in `inside/`, run with the packages of the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.images.build import build
from tests.support import inside
from tooling.containers import CONTAINERS, import_path

FOLDER, IMAGE = Path(__file__).parent / "inside", CONTAINERS / "power_bidding" / "model"


@pytest.fixture(scope="module")
def python() -> Path:
    """Path of the training image's Python interpreter."""
    return build(CONTAINERS, IMAGE / "Dockerfile").folder / "env" / "bin" / "python"


@pytest.mark.timeout(inside.NEVER)
def test_with_the_images_packages(python: Path) -> None:
    inside.run(python, import_path(IMAGE), FOLDER)
