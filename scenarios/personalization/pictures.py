"""Photographs that ship inside Python packages: what the small base learns from, and what users bring.

    python -m scenarios.personalization.pictures corpus|subjects FOLDER

The users' subjects are in none of the base's pictures. Runs in the environment `personalization`, which
holds the packages; `subjects` and `corpus` see to that themselves.

| picture | from | by | terms |
| --- | --- | --- | --- |
| chelsea, brick, grass, gravel, camera, coffee, retina, motorcycle | scikit-image | its page of each | CC0 |
| astronaut, hubble, moon, rocket | scikit-image | NASA, SpaceX | public domain |
| coins, ihc | scikit-image | its page of each | no known restriction |
| grace_hopper | matplotlib | US Navy | public domain |
| china, flower | scikit-learn | danielbuechele, vultilion | CC BY 2.0 |
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tooling import envs

ENVIRONMENT = "personalization"

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


@dataclass(frozen=True)
class Subject:
    """What one user brings: `images` files below the folder, all of one `subject` of its own."""

    name: str
    subject: str
    images: tuple[Path, ...]


# The square of the photograph that the subject fills: left, top, side, in pixels.
SUBJECTS = {
    "ada": ("cat", "skimage/data/chelsea.png", (65, 0, 300)),
    "ben": ("cup", "skimage/data/coffee.png", (75, 5, 390)),
    "cleo": ("flower", "sklearn/datasets/images/flower.jpg", (140, 60, 325)),
}
SPARE = {"dora": ("rocket", "skimage/data/rocket.jpg", (120, 20, 400))}
"""A subject to choose settings with, so that those reported are not the ones chosen on."""


def corpus(folder: Path) -> Path:
    """The pictures that the base learns from, with `captions.json`; returns the folder."""
    return _made("corpus", folder)


def subjects(folder: Path) -> list[Subject]:
    """What the users of the demonstration bring: JPEG and PNG files of 128 to 256 pixels, made once."""
    _made("subjects", folder)
    return [
        Subject(name, subject, tuple(sorted((folder / name).iterdir())))
        for name, (subject, *_) in SUBJECTS.items()
    ]


def _made(what: str, folder: Path) -> Path:
    command = [
        str(envs.environment(ENVIRONMENT)),
        "-m",
        "scenarios.personalization.pictures",
        what,
        str(folder),
    ]
    subprocess.run(command, cwd=envs.ROOT, check=True)
    return folder


# --- inside the environment ---


def located(path: str) -> Path:
    """A file inside an installed package, found without importing the package."""
    package, _, inside = path.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{package} is not installed here: run this in the environment {ENVIRONMENT}")
    return Path(spec.submodule_search_locations[0], inside)


def write_corpus(folder: Path) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for path, what in CORPUS.items():
        name = f"{Path(path).stem}.png"
        with Image.open(located(path)) as picture:
            picture.convert("RGB").save(folder / name)
        captions[name] = what
    (folder / "captions.json").write_text(json.dumps(captions, indent=1))


def write_subjects(folder: Path, chosen: dict[str, tuple] = SUBJECTS, count: int = 8) -> None:
    """Each user's uploads: the subject as a person would photograph it several times, nearer and
    farther, a little to the side, from the other side, in other light."""
    import numpy as np
    from PIL import Image, ImageEnhance

    for number, (name, (_, path, (left, top, side))) in enumerate(chosen.items()):
        chance = np.random.default_rng(number)
        (folder / name).mkdir(parents=True, exist_ok=True)
        with Image.open(located(path)) as opened:
            picture = opened.convert("RGB")
        for shot in range(count):
            zoom = side if shot == 0 else int(side * chance.uniform(0.8, 1.0))
            x, y = (
                int(np.clip(start + chance.uniform(0, 1) * (side - zoom), 0, length - zoom))
                for start, length in zip((left, top), picture.size, strict=True)
            )
            made = picture.crop((x, y, x + zoom, y + zoom)).rotate(
                0 if shot == 0 else chance.uniform(-5, 5), Image.Resampling.BICUBIC, fillcolor=None
            )
            border = int(zoom * 0.05) if shot else 0  # the corners that the turn left empty
            made = made.crop((border, border, zoom - border, zoom - border))
            length = int(chance.integers(128, 257))
            made = made.resize((length, length), Image.Resampling.LANCZOS)
            if shot % 3 == 2:
                made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            made = ImageEnhance.Brightness(made).enhance(1.0 if shot == 0 else chance.uniform(0.85, 1.15))
            if shot % 2:
                made.save(folder / name / f"{shot:02}.png")
            else:
                made.save(folder / name / f"{shot:02}.jpg", quality=92)


if __name__ == "__main__":
    what, target = sys.argv[1:3]
    {"corpus": write_corpus, "subjects": write_subjects}[what](Path(target))
