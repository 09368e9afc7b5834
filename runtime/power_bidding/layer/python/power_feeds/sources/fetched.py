"""The result of a source's client."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from power_feeds.errors import FeedMalformedError
from power_feeds.http import Answer

Series = dict[int, float | None]
"""Values by hour. None: the source states that it has no value. Absent hours may be published later."""


@dataclass
class Fetched:
    series: dict[str, Series] = field(default_factory=dict)
    published: str | None = None
    raw: list[tuple[str, bytes]] = field(default_factory=list)
    """Raw responses: extension and bytes."""
    kept_from: int | None = None
    """The oldest hour that the source keeps; None if it keeps all."""

    def keep(self, extension: str, answer: Answer) -> None:
        self.raw.append((extension, answer.body))

    def add(self, name: str, hour: int, value: float | None) -> None:
        """Add a value. Repeated rows must have the same value.

        Raises `FeedMalformedError` for different values; its message begins with `duplicates`.
        """
        series = self.series.setdefault(name, {})
        if hour in series and series[hour] != value:
            raise FeedMalformedError(f"duplicates: {name} has two values for one hour")
        series[hour] = value


def number(value: object, what: str) -> float | None:
    """Return `value`, from an answer, as a number; None if it is None or an empty text.

    Raises `FeedMalformedError` for anything that is not a finite number.
    """
    if value is None or value == "":
        return None
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except ValueError:
        found = None
    if found is None or not math.isfinite(found):
        raise FeedMalformedError(f"{what} must be a number")
    return found


def means(values: Mapping[tuple[str, int], Mapping[object, float | None]], each: int, into: Fetched) -> None:
    """Add to `into` the mean of each hour for which the values of all `each` intervals are known."""
    for (name, hour), intervals in sorted(values.items()):
        known = [value for value in intervals.values() if value is not None]
        if len(known) == each:
            into.add(name, hour, math.fsum(known) / each)
