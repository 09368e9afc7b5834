"""Filling of a missing hour from the hours next to it."""

from __future__ import annotations

from collections.abc import Mapping

LONGEST_GAP_HOURS = 3
"""Maximum number of consecutive missing hours that are filled."""
INTERPOLATED, CARRIED = "interpolated", "carried"


def filled(known: Mapping[int, float | None], hour: int) -> tuple[float, str] | None:
    """Return a value for `hour` and how it was made; None if `LONGEST_GAP_HOURS` hours before it are missing.

    In a gap of at most `LONGEST_GAP_HOURS`, the value is interpolated; in a longer gap, or after the last
    known hour, the last known value is repeated.
    """
    before = _nearest(known, hour, -1)
    after = _nearest(known, hour, +1)
    if before is None:
        return None
    first = known[before]
    assert first is not None  # noqa: S101 - for the type checker
    if after is not None and after - before - 1 <= LONGEST_GAP_HOURS:
        last = known[after]
        assert last is not None  # noqa: S101
        return first + (last - first) * (hour - before) / (after - before), INTERPOLATED
    return first, CARRIED


def _nearest(known: Mapping[int, float | None], hour: int, step: int) -> int | None:
    """Return the known hour nearest before (`step` -1) or after (1) `hour`, within `LONGEST_GAP_HOURS`."""
    for away in range(1, LONGEST_GAP_HOURS + 1):
        if known.get(hour + step * away) is not None:
            return hour + step * away
    return None
