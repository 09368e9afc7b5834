"""Data-quality checks of a feed, each with a name. The thresholds are based on two years of ERCOT prices and
11 months of CAISO prices.

In those prices, two hubs have equal prices in at most 19 hours of a day, a price repeats for at most 7 hours,
no day is a copy of the day before, and no day has the prices of another day times twelve.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence

from power_feeds import hours
from power_feeds.errors import FeedMalformedError
from power_feeds.fill import LONGEST_GAP_HOURS

Values = Mapping[int, float | None]
CENT = 0.005
FLAT_HOURS = 18
FLOORS = (-150.0, -250.0, -251.0)
"""Price floors in $/MWh: CAISO's floor, and ERCOT's floor without and with its scarcity adder."""
LOAD_ZONE = "LZ_"
"""Prefix of load zones. Only hubs are compared, because on days without congestion a load zone has its hub's
prices."""
LEAST_DAY_HOURS = 23
"""Minimum number of known hours of a day that is checked."""
LEAST_OVERLAP_HOURS = 6
TWELVE = 12.0
"""Factor by which a value is wrong if twelve 5-minute values are summed, or an hourly value is divided by
twelve."""
TWELVE_WITHIN = 1.15
SAME_SHAPE = 1.5
"""A day has the shape of the day before if the upper quartile of the 24 hourly ratios is less than this
multiple of the lower quartile."""


def check(
    series: Mapping[str, Values], zone: str, reference: Mapping[str, Values] | None = None
) -> list[str]:
    """Return a sentence for each check that `series` fails. Each sentence begins with the check's name.

    `reference` has the same series from an earlier response. The external forecast is not checked; it may
    repeat values.
    """
    judged = {name: values for name, values in series.items() if not name.startswith("price_forecast")}
    problems: list[str] = []
    for name, values in sorted(judged.items()):
        before = (reference or {}).get(name, {})
        found: Sequence[str | None] = (
            floor_price(name, values, zone),
            flat(name, values),
            stale(name, values),
            units_off_by_twelve(name, values, before),
            gaps(name, values),
        )
        problems += [problem for problem in found if problem]
    return problems + hubs_equal(judged, zone)


def refuse(series: Mapping[str, Values], zone: str, reference: Mapping[str, Values] | None = None) -> None:
    """Raise `FeedMalformedError` with the first problem that `check` finds."""
    for problem in check(series, zone, reference):
        raise FeedMalformedError(problem)


def hubs_equal(series: Mapping[str, Values], zone: str) -> list[str]:
    """Report every pair of hubs that has the same prices for a whole market day."""
    hubs = {
        name: known
        for name, values in sorted(series.items())
        if name.startswith("price:") and not name.partition(":")[2].startswith(LOAD_ZONE)
        if (known := _known(values))
    }
    problems = []
    for (first, one), (second, other) in itertools.combinations(hubs.items(), 2):
        for day, there in _days(one.keys() & other.keys(), zone):
            if all(abs(one[hour] - other[hour]) < CENT for hour in there):
                problems.append(f"hubs_equal: {first} and {second} are equal to the cent all of {day}")
                break
    return problems


def floor_price(name: str, values: Values, zone: str) -> str | None:
    """Report day-ahead or real-time prices that stay at a floor for a whole market day."""
    if not name.startswith(("price:", "real_time:")):
        return None
    known = _known(values)
    for day, there in _days(known.keys(), zone):
        if any(all(abs(known[hour] - floor) < CENT for hour in there) for floor in FLOORS):
            return f"floor_price: {name} is at the floor in every hour of {day}"
    return None


def flat(name: str, values: Values) -> str | None:
    """Report values that stay the same for `FLAT_HOURS` hours in a row."""
    run, last = 0, None
    for hour, value in sorted(_known(values).items()):
        run = run + 1 if last == (hour - 1, value) else 1
        last = (hour, value)
        if run >= FLAT_HOURS:
            return f"flat: {name} has the same value for {run} hours up to {hours.text(hour)}"
    return None


def stale(name: str, values: Values) -> str | None:
    """Report 24 hours in a row whose values are a copy of those of the day before."""
    known = _known(values)
    run = 0
    for hour in range(min(known, default=0), max(known, default=0) + 1):
        same = hour in known and known.get(hour - 24) == known[hour]
        run = run + 1 if same else 0
        if run >= 24:
            return f"stale: {name} repeats the day before in the 24 hours up to {hours.text(hour)}"
    return None


def units_off_by_twelve(name: str, values: Values, reference: Values) -> str | None:
    """Report values that are twelve times, or a twelfth of, their reference.

    The reference is an earlier response for the same hours, or the day before if it has the same shape.
    """
    if name == "temperature":
        return None
    known, before = _known(values), _known(reference)
    same = _ratios(known, before, 0)
    if len(same) >= LEAST_OVERLAP_HOURS and _by_twelve(statistics.median(same)):
        ratio = statistics.median(same)
        return f"units_off_by_twelve: {name} is {ratio:.2f} times the earlier response for the same hours"
    for start in range(min(known, default=0) + 24, max(known, default=0) - 22):
        day = {hour: known[hour] for hour in range(start, start + 24) if hour in known}
        ratios = _ratios(day, known, 24)
        if len(ratios) < LEAST_DAY_HOURS:
            continue
        low, middle, high = statistics.quantiles(ratios, n=4)
        if _by_twelve(middle) and high / low < SAME_SHAPE:
            return (
                f"units_off_by_twelve: {name} is {middle:.2f} times the day before, from {hours.text(start)}"
            )
    return None


def gaps(name: str, values: Values) -> str | None:
    """Report more than `LONGEST_GAP_HOURS` consecutive missing hours in a day-ahead price.

    An auction publishes whole days. The sources of load and weather have gaps, which are filled or flagged.
    """
    if not name.startswith("price:"):
        return None
    there = sorted(values)
    for before, after in itertools.pairwise(there):
        if after - before - 1 > LONGEST_GAP_HOURS:
            return f"gaps: {name} has {after - before - 1} hours missing after {hours.text(before)}"
    return None


def _known(values: Values) -> dict[int, float]:
    return {hour: value for hour, value in values.items() if value is not None}


def _days(known: Iterable[int], zone: str) -> list[tuple[str, list[int]]]:
    """Return the known hours of each market day that has at least `LEAST_DAY_HOURS` of them."""
    days: dict[str, list[int]] = {}
    for hour in sorted(known):
        days.setdefault(hours.market_day(hour, zone), []).append(hour)
    return [(day, there) for day, there in days.items() if len(there) >= LEAST_DAY_HOURS]


def _ratios(values: Mapping[int, float], before: Mapping[int, float], shift: int) -> list[float]:
    """Return the ratio of each value to the one `shift` hours before.

    Leaves out a value if the earlier one is between -1 and 1 or has the other sign.
    """
    return [
        value / before[hour - shift]
        for hour, value in values.items()
        if hour - shift in before and abs(before[hour - shift]) >= 1 and value / before[hour - shift] > 0
    ]


def _by_twelve(ratio: float) -> bool:
    ratio = max(ratio, 1 / ratio)
    return TWELVE / TWELVE_WITHIN < ratio < TWELVE * TWELVE_WITHIN
