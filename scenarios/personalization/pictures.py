"""The uploads of the demonstration's users, from photographs in Python packages.

    python -m scenarios.personalization.pictures FOLDER

The users' subjects are not in the base's pictures, which are listed in `corpus.py`. Runs in the environment
`scenarios-personalization`, which has the packages; the function `subjects` starts this module there.

| picture | from | by | terms |
| --- | --- | --- | --- |
| chelsea, brick, grass, gravel, camera, coffee, retina, motorcycle | scikit-image | named in its docs | CC0 |
| astronaut, hubble, moon, rocket | scikit-image | NASA, SpaceX | public domain |
| coins, ihc | scikit-image | named in its docs | no known restriction |
| grace_hopper | matplotlib | US Navy | public domain |
| china, flower | scikit-learn | danielbuechele, vultilion | CC BY 2.0 |
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scenarios.personalization.corpus import located
from tooling import envs


@dataclass(frozen=True)
class Subject:
    """A user's uploads: the files `images`, which all show `subject`."""

    name: str
    subject: str
    images: tuple[Path, ...]


# subject, photograph, and the square around the subject: left, top, side in pixels
SUBJECTS = {
    "ada": ("cat", "skimage/data/chelsea.png", (65, 0, 300)),
    "ben": ("cup", "skimage/data/coffee.png", (75, 5, 390)),
    "cleo": ("flower", "sklearn/datasets/images/flower.jpg", (140, 60, 325)),
}
SPARE = {"dora": ("rocket", "skimage/data/rocket.jpg", (120, 20, 400))}
"""Subject on which settings are chosen, so that they are not chosen on the subjects of the report."""


def subjects(folder: Path) -> list[Subject]:
    """Write and return the uploads of the demonstration's users: JPEG and PNG, 128 to 256 pixels a side."""
    python = str(envs.environment("scenarios-personalization"))
    subprocess.run([python, "-m", __name__, str(folder)], cwd=envs.ROOT, check=True)
    return [
        Subject(name, subject, tuple(sorted((folder / name).iterdir())))
        for name, (subject, *_) in SUBJECTS.items()
    ]


# --- runs in the environment `scenarios-personalization` ---


def write_subjects(folder: Path, chosen: dict[str, tuple] = SUBJECTS, count: int = 8, seed: int = 0) -> None:
    """Write `count` variants of each user's subject, like several photographs of it.

    The variants differ in distance, position, angle, brightness and size; some are mirrored.
    """
    import numpy as np
    from PIL import Image, ImageEnhance

    for number, (name, (_, path, (left, top, side))) in enumerate(chosen.items()):
        chance = np.random.default_rng([seed, number])
        (folder / name).mkdir(parents=True, exist_ok=True)
        with Image.open(located(path)) as opened:
            picture = opened.convert("RGB")
        for shot in range(count):
            zoom = side if shot == 0 else int(side * chance.uniform(0.9, 1.0))
            x, y = (
                int(np.clip(start + chance.uniform(0, 1) * (side - zoom), 0, length - zoom))
                for start, length in zip((left, top), picture.size, strict=True)
            )
            made = picture.crop((x, y, x + zoom, y + zoom)).rotate(
                0 if shot == 0 else chance.uniform(-3, 3), Image.Resampling.BICUBIC, fillcolor=None
            )
            border = int(zoom * 0.03) if shot else 0  # the rotation leaves empty corners
            made = made.crop((border, border, zoom - border, zoom - border))
            length = int(chance.integers(128, 257))
            made = made.resize((length, length), Image.Resampling.LANCZOS)
            if shot % 4 == 3:
                made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            made = ImageEnhance.Brightness(made).enhance(1.0 if shot == 0 else chance.uniform(0.85, 1.15))
            if shot % 2:
                made.save(folder / name / f"{shot:02}.png")
            else:
                made.save(folder / name / f"{shot:02}.jpg", quality=92)


if __name__ == "__main__":
    write_subjects(Path(sys.argv[1]))
