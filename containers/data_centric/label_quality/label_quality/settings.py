"""The arguments of a processing job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from toolkit.failure import FatalError
from toolkit.options import Options, flag, number, text, whole


@dataclass(frozen=True)
class Settings(Options):
    """Arguments with their defaults and bounds."""

    NOUN: ClassVar[str] = "argument"

    attribute: str = text("the name of the manifest's attribute with the labels")
    seed: int = whole(0, 2**31 - 1, default=0)
    folds: int = whole(2, 20, default=5)
    """Number of folds for out-of-fold predictions"""
    side: int = whole(4, 256, default=32)
    """Side, in pixels, of the square to which pictures are scaled"""
    grey: bool = flag(default=False)
    """Convert pictures to grayscale"""
    most_unreadable: int = whole(0, 1_000_000, default=0)
    """Maximum number of items whose picture or row is missing or unreadable; the job fails above it"""
    duplicate_distance: float = number(0, 1, default=0.3)
    """Maximum distance between near-duplicates, as a multiple of the median distance between an item and the
    nearest item of different content"""
    least_confidence: float = number(0, 1, default=0.4)
    """An item is a suspect if the confidence of its consensus is lower than this"""
    outlier_distance: float = number(1, 100, default=1.5)
    """Minimum mean distance of an outlier to its neighbours, as a multiple of the median over all items"""
    redundant_share: float = number(0, 0.9, default=0.3)
    """Share of each class's items that are marked as redundant"""
    most_suspects: int = whole(1, 100_000, default=500)
    """Maximum number of suspects in the review manifest and in the report"""
    most_shown: int = whole(1, 1000, default=100)
    """Maximum number of suspects on the page"""


def named(arguments: Sequence[str]) -> dict[str, str]:
    """Return the values of arguments `--name value` by name. Hyphens in a name are read as underscores."""
    if len(arguments) % 2:
        raise FatalError(f"arguments must be pairs of --NAME VALUE, got {' '.join(arguments)}")
    found: dict[str, str] = {}
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        key = name.removeprefix("--").replace("-", "_")
        if not name.startswith("--") or not key:
            raise FatalError(f"an argument's name must begin with --, got {name}")
        if key in found:
            raise FatalError(f"argument {key} must be given once, got it twice")
        found[key] = value
    return found
