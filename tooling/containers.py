"""Paths of the images' sources, to build an image or to run its program outside of a container."""

from __future__ import annotations

import os
from pathlib import Path

from tooling import envs

CONTAINERS = envs.ROOT / "containers"
"""Build context of all images."""


def import_path(image: Path) -> str:
    """Return the PYTHONPATH to run an image's program outside of a container."""
    return os.pathsep.join(map(str, (image, CONTAINERS)))
