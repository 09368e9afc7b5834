"""A user's pictures, which may be anything: read with care, then cut and turned for training."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from .failure import TaskFailure

FORMATS = ("JPEG", "PNG", "WEBP")
MOST_PIXELS = 50_000_000
LEAST_SIDE = 32


def read(folder: Path, paths: tuple[str, ...]) -> list[Image.Image]:
    """The pictures as RGB, upright. Raises `TaskFailure` naming the first that is of no use, and why."""
    if not paths:
        raise TaskFailure("There are no pictures to learn from: upload some of your subject.")
    return [_read(folder / path, f"Picture {number}") for number, path in enumerate(paths, 1)]


def _read(path: Path, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise TaskFailure(f"{name} never arrived: upload it again.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name) from None
    except (OSError, ValueError, SyntaxError):
        raise TaskFailure(f"{name} is not a JPEG, PNG or WebP picture: replace it by one.") from None
    with opened:
        width, height = opened.size
        if width * height > MOST_PIXELS:  # known from the header, before anything is unpacked
            raise _too_large(name)
        if min(width, height) < LEAST_SIDE:
            raise TaskFailure(
                f"{name} is {width} x {height} pixels: use one of at least {LEAST_SIDE} on each side."
            )
        try:
            return ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, ValueError, SyntaxError, MemoryError):
            raise TaskFailure(f"{name} is damaged and cannot be read to its end: upload it again.") from None


def _too_large(name: str) -> TaskFailure:
    return TaskFailure(
        f"{name} has more than {MOST_PIXELS // 1_000_000} million pixels: "
        "make it smaller and upload it again."
    )


def variants(
    pictures: list[Image.Image], count: int, resolution: int, chance: np.random.Generator
) -> torch.Tensor:
    """`count` square copies of each picture, (pictures x count, 3, resolution, resolution) in [-1, 1].

    The first two are the middle of the picture and its mirror image; the rest are cut a little smaller
    somewhere, half of them mirrored. One after the other by picture.
    """
    made = []
    for picture in pictures:
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
