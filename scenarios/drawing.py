"""Style of the scenarios' pictures: one palette and one size, as SVG whose colours a page can replace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

PALETTE = {
    "ink": "#1c2b3a",
    "quiet": "#64748a",
    "grid": "#d8dfe8",
    "first": "#2563eb",
    "second": "#e0652c",
    "third": "#0f9b8e",
}
"""Colours by purpose. The SVG contains them unchanged, so that a page can replace them."""

INK, QUIET, GRID, FIRST, SECOND, THIRD = PALETTE.values()

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}


@contextmanager
def picture(path: Path, width: float = 4.6, height: float = 3.1) -> Iterator[Axes]:
    """Yield axes, and write them to `path` as SVG with a transparent background. Sizes are in inches.

    The default size is that of a phone's screen, so that text remains legible there.
    """
    with grid(path, 1, 1, width, height) as ((axes,),):
        yield axes


@contextmanager
def grid(path: Path, rows: int, columns: int, width: float, height: float) -> Iterator[list[list[Axes]]]:
    """Yield rows of axes, and write them as `picture` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": path.stem}):
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
        try:
            yield axes.tolist()
            figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
        finally:
            plt.close(figure)
