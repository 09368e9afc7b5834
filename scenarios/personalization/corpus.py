"""Photographs that ship inside Python packages, as the small base learns from them.

    python -m scenarios.personalization.corpus FOLDER

Runs in the environment `personalization`, which holds the packages. What each picture may be used for stands
in `scenarios/personalization/pictures.py`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

CORPUS = {
    "skimage/data/astronaut.png": "an astronaut",
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg": "a woman",
    "skimage/data/camera.png": "a man",
    "skimage/data/motorcycle_left.png": "a motorcycle",
    "sklearn/datasets/images/china.jpg": "a temple",
    "skimage/data/hubble_deep_field.jpg": "the stars",
    "skimage/data/ihc.png": "cells",
    "skimage/data/retina.jpg": "an eye",
    "skimage/data/brick.png": "a wall",
    "skimage/data/grass.png": "grass",
    "skimage/data/gravel.png": "stones",
    "skimage/data/coins.png": "coins",
    "skimage/data/moon.png": "the moon",
}
"""The base's pictures, and what each shows."""


def located(path: str) -> Path:
    """A file inside an installed package, found without importing the package."""
    package, _, inside = path.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"{package} is not installed here: run this in the environment personalization"
        )
    return Path(spec.submodule_search_locations[0], inside)


def write(folder: Path) -> None:
    """The pictures, with `captions.json`."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for path, what in CORPUS.items():
        name = f"{Path(path).stem}.png"
        with Image.open(located(path)) as picture:
            picture.convert("RGB").save(folder / name)
        captions[name] = what
    (folder / "captions.json").write_text(json.dumps(captions, indent=1))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
