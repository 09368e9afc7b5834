"""Paths of the images' sources, for building an image and for running its program without one."""

from __future__ import annotations

import os
from pathlib import Path

from tooling import envs

CONTAINERS = envs.ROOT / "containers"
"""Build context of all images."""


def import_path(image: Path) -> str:
    """Return the PYTHONPATH for running the program of an image outside of the image."""
    return os.pathsep.join(map(str, (image, CONTAINERS)))
