"""A user's pictures: validated (they are untrusted), then cropped and mirrored for training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from . import pictures
from .failure import TaskError


def read(folder: Path, paths: tuple[str, ...]) -> Iterator[Image.Image]:
    """Yield the pictures as RGB, upright, one in memory at a time.

    Raises `TaskError` with the number of the first unusable picture and the reason.
    """
    if not paths:
        raise TaskError("The request has no pictures: upload pictures of your subject.")
    for number, path in enumerate(paths, 1):
        try:
            yield pictures.read(folder / path)
        except FileNotFoundError:
            raise TaskError(
                f"Picture {number} was not uploaded: create a new model and upload all of its pictures."
            ) from None
        except pictures.PictureError as error:
            raise TaskError(f"Picture {number} {error}.") from None


def variants(
    found: Iterable[Image.Image], count: int, resolution: int, chance: np.random.Generator
) -> torch.Tensor:
    """Return `count` square crops of each picture, (pictures x count, 3, resolution, resolution) in [-1, 1].

    The first two crops of a picture are its largest square in the center and the mirror image of that. The
    side of each further crop is 0.8 to 1 times the picture's shorter side, and its position is random; every
    second one is mirrored. The crops are ordered by picture.
    """
    made = []
    for picture in found:
        short = min(picture.size)
        for number in range(count):
            side = short if number < 2 else int(short * chance.uniform(0.8, 1.0))
            place = (0.5, 0.5) if number < 2 else chance.uniform(0, 1, 2)
            left, top = (int((length - side) * at) for length, at in zip(picture.size, place, strict=True))
            box = (left, top, left + side, top + side)
            size = (resolution, resolution)
            square = picture.resize(size, Image.Resampling.LANCZOS, box, reducing_gap=3)
            if number % 2:
                square = ImageOps.mirror(square)
            made.append(np.asarray(square, dtype=np.float32))
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2) / 127.5 - 1
