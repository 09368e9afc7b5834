"""The histories of all locations: a folder with a file `LOCATION.csv` for each."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.failure import FatalError

from .history import History, read_csv
from .panel import Panel

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Location:
    """A location for which the market has a price, such as a hub."""

    history: History
    panel: Panel
    end: int
    """Number of market days up to the last one with a price; feeds may end later"""
    digest: str
    """SHA-256 of the file"""

    @property
    def known_to(self) -> int:
        """The hour after the last price, in hours since 1970-01-01 UTC."""
        return self.history.start + int(np.flatnonzero(np.isfinite(self.history.prices))[-1]) + 1


def read(folder: Path, column: str, zone: str) -> dict[str, Location]:
    """Read the files of a folder. Raises `FatalError` for an invalid file."""
    paths = sorted(folder.glob("*.csv")) if folder.is_dir() else []
    if not paths:
        raise FatalError(f"folder {folder.name} must have a file LOCATION.csv for each location, got none")
    found: dict[str, Location] = {}
    for path in paths:
        if not NAME.fullmatch(path.stem):
            raise FatalError(
                f"{path.name} must be named LOCATION.csv; LOCATION has at most 64 letters, digits, '_', '.'"
                " and '-', and begins with a letter or digit"
            )
        history = read_csv([path], column, zone)
        panel = Panel.of(history)
        known = np.isfinite(history.prices)
        priced = [row for row in range(len(panel.days)) if known[panel.days.hours(row)].any()]
        if not priced:
            raise FatalError(f"{path.name} must have a whole market day with prices, got none")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[path.stem] = Location(history, panel, priced[-1] + 1, digest)
    return found
