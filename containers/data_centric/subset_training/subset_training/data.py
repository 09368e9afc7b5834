"""The data of a job: training, validation and test examples of the same classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.failure import FatalError

from .reading import Decoding, Raw, read
from .selection import permuted, random_numbers

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLIT = "split"
"""Seed of the validation split. It is fixed, so all runs of an experiment train on the same examples."""


@dataclass(frozen=True)
class Examples:
    images: Tensor
    """uint8 [n, channels, H, W]; for a table float32 [n, columns, 1, 1]"""
    labels: Tensor
    """int64 [n]"""
    embeddings: Tensor | None = None
    """float32 [n, E]"""

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, indices: Tensor) -> Examples:
        embeddings = None if self.embeddings is None else self.embeddings[indices]
        return Examples(self.images[indices], self.labels[indices], embeddings)


@dataclass(frozen=True)
class Data:
    train: Examples
    validation: Examples
    test: Examples | None
    """Test set; evaluated once, after the last epoch"""
    classes: tuple[str, ...]
    unreadable: tuple[str, ...]
    """Names of unreadable pictures that were skipped"""
    columns: tuple[str, ...] = ()
    """Names of a table's columns; empty for pictures"""

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the training and validation examples."""
        found = hashlib.sha256(repr(self.classes).encode())
        for each in (self.train, self.validation):
            found.update(repr(tuple(each.images.shape)).encode())
            found.update(each.images.numpy().tobytes())
            found.update(each.labels.numpy().tobytes())
        return found.hexdigest()[:16]


def load(channels: Path, how: Decoding, validation_fraction: float) -> Data:
    """Read the channels `train`, `validation` and `test`. `validation` and `test` are optional.

    Without the channel `validation`, a share of each class is split off `train`. Raises `FatalError` for
    invalid data.
    """
    raw = {
        name: read(channels / name, how)
        for name in (TRAIN, VALIDATION, TEST)
        if name == TRAIN or (channels / name).exists()
    }
    classes = tuple(sorted(set(raw[TRAIN].labels), key=_order))
    if len(classes) < 2:
        raise FatalError(f"channel {TRAIN} must have at least 2 classes, got {', '.join(classes)}")
    shape, columns = raw[TRAIN].images[0].shape, raw[TRAIN].columns
    for name, each in raw.items():
        if each.columns != columns:
            given, wanted = (", ".join(names) or "pictures" for names in (each.columns, columns))
            raise FatalError(
                f"channel {name} must have the same columns as channel {TRAIN} ({wanted}), got {given}"
            )
        if each.images[0].shape != shape:
            given, wanted = ("x".join(map(str, size)) for size in (each.images[0].shape, shape))
            raise FatalError(
                f"pictures of channel {name} must have the shape {wanted} as in channel {TRAIN}, got {given}"
            )
    found = {name: _examples(name, each, classes) for name, each in raw.items()}
    if VALIDATION in found:
        _require_every_class(found[VALIDATION], classes)
        train, validation = found[TRAIN], found[VALIDATION]
    else:
        train, validation = split(found[TRAIN], classes, validation_fraction)
    unreadable = tuple(f"{name}/{path}" for name, each in raw.items() for path in each.unreadable)
    return Data(train, validation, found.get(TEST), classes, unreadable, columns)


def _order(label: str) -> tuple[int, int, str]:
    """Return the sort key of a label: numbers by value, before all other labels."""
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)


def _examples(channel: str, raw: Raw, classes: tuple[str, ...]) -> Examples:
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = sorted(set(raw.labels) - numbers.keys(), key=_order)
    if unknown:
        shown = ", ".join(unknown)
        raise FatalError(f"channel {channel} must have classes of channel {TRAIN} only, got {shown}")
    images = torch.from_numpy(np.ascontiguousarray(np.stack(raw.images)))
    labels = torch.tensor([numbers[label] for label in raw.labels])
    embeddings = torch.from_numpy(np.stack(raw.embeddings)) if raw.embeddings else None
    return Examples(images, labels, embeddings)


def _require_every_class(validation: Examples, classes: tuple[str, ...]) -> None:
    counts = torch.bincount(validation.labels, minlength=len(classes)).tolist()
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    if absent:
        raise FatalError(
            f"channel {VALIDATION} must have an example of each class, got none of {', '.join(absent)}"
        )


def split(examples: Examples, classes: tuple[str, ...], fraction: float) -> tuple[Examples, Examples]:
    """Split each class into training and validation examples, at least one of each.

    Raises `FatalError` for a class of one example.
    """
    held: list[Tensor] = []
    for number, name in enumerate(classes):
        members = (examples.labels == number).nonzero().squeeze(1)
        if len(members) < 2:
            raise FatalError(
                f"class {name} must have at least 2 examples, one of them for validation, got {len(members)}"
            )
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held.append(permuted(members, random_numbers(SPLIT, number))[:count])
    chosen = torch.zeros(len(examples), dtype=torch.bool)
    chosen[torch.cat(held)] = True
    return examples.part((~chosen).nonzero().squeeze(1)), examples.part(chosen.nonzero().squeeze(1))
