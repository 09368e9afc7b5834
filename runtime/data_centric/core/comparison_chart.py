"""Draws the comparison of a sweep as SVG: test accuracy against billed seconds of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from data_centric.core.comparison import Interval, Row

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 200, 40, 52
COLORS = ("#1b6ca8", "#c8553d", "#2a9d5c", "#8e5ea2", "#b8860b", "#5c6670")
"""Colors of the strategies, in order. Further strategies reuse them with another marker."""
MARKERS = ("circle", "square")
TICKS = 6

Point = tuple[Row, Interval, float]


def svg(title: str, rows: Sequence[Row]) -> str:
    """Return the chart of all cells that have an accuracy. Lines are 95 % intervals."""
    points: list[Point] = [
        (row, row.accuracy, row.billed_seconds)
        for row in rows
        if row.accuracy is not None and row.billed_seconds is not None
    ]
    body = "\n".join(_parts(title, points))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' font-family="sans-serif" font-size="12">\n<title>{escape(title)}</title>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _parts(title: str, points: Sequence[Point]) -> Iterator[str]:
    yield _text(LEFT, 22, title, size=15)
    if not points:
        yield _text(LEFT, HEIGHT / 2, "No job completed.")
        return
    limits = [each for _, accuracy, _ in points for each in _ends(accuracy)]
    bottom, top = max(0.0, min(limits)), min(1.0, max(limits))
    up = _ticks(100 * bottom, 100 * top)
    across = _ticks(0, max(seconds for _, _, seconds in points))

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (seconds - across[0]) / (across[-1] - across[0])

    def y(share: float) -> float:
        inside = min(max(100 * share, up[0]), up[-1])
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (inside - up[0]) / (up[-1] - up[0])

    for tick in up:
        yield _line(LEFT, y(tick / 100), WIDTH - RIGHT, y(tick / 100), "#e3e6e8")
        yield _text(LEFT - 8, y(tick / 100) + 4, f"{tick:g}", anchor="end")
    for tick in across:
        yield _line(x(tick), TOP, x(tick), HEIGHT - BOTTOM, "#e3e6e8")
        yield _text(x(tick), HEIGHT - BOTTOM + 18, f"{tick:g}", anchor="middle")
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield _text(middle, HEIGHT - 12, "billed seconds of a run, start included", anchor="middle")
    yield _text(LEFT - 50, TOP - 8, "test accuracy in %")
    names = list(dict.fromkeys(row.strategy for row, _, _ in points))
    for number, name in enumerate(names):
        color, marker = _style(number)
        for row, accuracy, seconds in points:
            if row.strategy == name:
                low, high = _ends(accuracy)
                yield _line(x(seconds), y(low), x(seconds), y(high), color, 1.5)
                yield _marker(x(seconds), y(accuracy.mean), color, marker)
                yield _text(x(seconds) + 7, y(accuracy.mean) - 6, f"{row.fraction:g}", color=color)
        height = TOP + 10 + 20 * number
        yield _marker(WIDTH - RIGHT + 20, height, color, marker)
        yield _text(WIDTH - RIGHT + 32, height + 4, name)


def _ends(interval: Interval) -> tuple[float, float]:
    if interval.low is None or interval.high is None:
        return interval.mean, interval.mean
    return interval.low, interval.high


def _ticks(low: float, high: float) -> list[float]:
    """Return at most `TICKS` evenly spaced round values whose range includes `low` and `high`."""
    span = max(high - low, 1e-3)
    power = 10.0 ** math.floor(math.log10(span / (TICKS - 1)))
    step = next(power * each for each in (1, 2, 5, 10, 20) if span / (power * each) <= TICKS - 2)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _style(number: int) -> tuple[str, str]:
    return COLORS[number % len(COLORS)], MARKERS[number // len(COLORS) % len(MARKERS)]


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        f' stroke="{color}" stroke-width="{width:g}"/>'
    )


def _marker(x: float, y: float, color: str, marker: str) -> str:
    if marker == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
    return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{color}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", color: str = "#22292f", size: int = 12
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">'
        f"{escape(text)}</text>"
    )
