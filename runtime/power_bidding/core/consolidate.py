"""Consolidates an hourly run's feeds by timestamp: makes the run hour's dataset and corrects earlier hours.

The same input gives the same output, even if the run is killed and repeated, or is late. An earlier run never
overwrites values of a later one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from power_bidding.core import datasets, history, hours_table
from power_bidding.core.datasets import Dataset, Objects, Values
from power_bidding.core.history import History
from power_bidding.core.hours_table import HourRow, Hours
from power_feeds import files, hours
from power_feeds.fetch import BEFORE_HOURS, FeedResult
from power_feeds.fill import LONGEST_GAP_HOURS, filled
from power_feeds.rows import COLUMNS, series_name

EARLIER_FORECAST, MISSING = "earlier forecast", "missing"
CORRECTED = ("price", "real_time")
"""Columns in which a later response of the source changes values of earlier hours. In other columns, a later
response only replaces values that were filled or missing."""
Series = Mapping[str, Mapping[int, float | None]]


class Request(TypedDict, total=False):
    hour: str
    feeds: Sequence[FeedResult]


class Output(TypedDict):
    hour: str
    status: str
    version: int
    changed: bool
    """Whether this input created the current version. A repeated input gets the same value."""
    flags: dict[str, str]
    key: str
    age: int
    """Hours since the oldest series was fetched"""


@dataclass(frozen=True)
class Backend:
    objects: Objects
    hours: Hours
    history: History
    locations: Sequence[str]
    zone: str


def consolidate(request: Request, backend: Backend) -> Output:
    """Make the dataset of the request's hour, correct earlier hours and freeze the forecast.

    Raises `ValueError` for an invalid hour, and for a feed's file that is absent, changed or of another hour.
    """
    now = hours.parse(request["hour"])
    given = _read(now, request["feeds"], backend.objects)
    series = {name: values for one in given.values() for name, values in one.series.items()}
    inputs = _digest(request["feeds"])
    earlier = backend.hours.rows(range(now - BEFORE_HOURS, now))
    for hour in sorted(earlier):
        earlier[hour] = (
            _commit(hour, lambda row: _corrected(row, now, inputs, series, backend.objects), backend)
            or earlier[hour]
        )
    row = _commit(now, lambda row: _own(row, now, inputs, series, earlier, backend), backend)
    if row is None:
        raise RuntimeError(f"{request['hour']} has no dataset")
    history.catch_up([*earlier.values(), row], backend.history)
    if forecast := given.get("price_forecast"):
        found = {place: series.get(series_name("price_forecast", place), {}) for place in backend.locations}
        history.freeze(now, backend.zone, found, forecast.published, backend.history)
    output: Output = {
        "hour": request["hour"],
        "status": row.status,
        "version": row.version,
        "changed": (row.as_of, row.inputs) == (now, inputs),
        "flags": dict(row.flags),
        "key": row.key,
        "age": _age(row, now, backend.objects),
    }
    return output


def _age(row: HourRow, now: int, objects: Objects) -> int:
    made = _dataset(row, objects)["made"].values()
    return max((now - hours.parse(run) for run in made), default=0)


def _commit(hour: int, make: Callable[[HourRow | None], Dataset | None], backend: Backend) -> HourRow | None:
    return hours_table.commit(hour, make, backend.hours, backend.objects)


def _read(now: int, feeds: Sequence[FeedResult], objects: Objects) -> dict[str, files.Normalized]:
    found = {}
    for result in feeds:
        if result.get("status") != "ready":
            continue
        body = objects.get(result["key"])
        if body is None:
            raise ValueError(f"{result['key']} is not in the bucket")
        one = files.decoded(body)
        if one.hour != now or files.digest(body) != result["digest"]:
            raise ValueError(
                f"{result['key']} is not the file that the feed {result['feed']} wrote for {hours.text(now)}"
            )
        found[one.feed] = one
    return found


def _digest(feeds: Sequence[FeedResult]) -> str:
    known = sorted((one["feed"], one["status"], one.get("digest", "")) for one in feeds)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


# The run's own hour


def _own(
    row: HourRow | None,
    now: int,
    inputs: str,
    series: Series,
    earlier: Mapping[int, HourRow],
    backend: Backend,
) -> Dataset | None:
    """Return the dataset of the run's hour; None if this input or a later run has already made one."""
    if row and (row.as_of > now or row.inputs == inputs):
        return None
    before = _dataset(earlier[max(earlier)], backend.objects) if earlier else None
    flags: dict[str, str] = {}
    values: Values = {place: dict.fromkeys(COLUMNS) for place in backend.locations}
    for column in COLUMNS:
        for place in backend.locations:
            name = series_name(column, place)
            value, how = _value(name, column, place, now, series, earlier, before)
            values[place][column] = value
            if how:
                flags[name] = how
    forward, made = _ahead(now, series, before)
    return {
        "hour": hours.text(now),
        "version": 0,
        "status": datasets.status(flags, values),
        "flags": flags,
        "values": values,
        "forward": forward,
        "made": made,
        "as_of": hours.text(now),
        "inputs": inputs,
        "changes": _changes(row.values, values) if row else [],
    }


def _dataset(row: HourRow, objects: Objects) -> Dataset:
    body = objects.get(row.key)
    if body is None:
        raise OSError(f"{row.key} is not in the bucket")
    return datasets.decoded(body)


def _value(
    name: str,
    column: str,
    place: str,
    now: int,
    series: Series,
    earlier: Mapping[int, HourRow],
    before: Dataset | None,
) -> tuple[float | None, str | None]:
    """Return the value of a series at `now`, and its flag if the value is not the feed's."""
    value = series.get(name, {}).get(now)
    if column == "real_time":
        return value, None  # the source publishes it after the hour, so a later run adds it
    if value is not None:
        return value, None
    if before and (known := before["forward"].get(name, {}).get(hours.text(now))) is not None:
        return known, EARLIER_FORECAST
    # Filled values are not used to fill other hours
    near: dict[int, float | None] = {
        hour: earlier[hour].values.get(place, {}).get(column)
        for hour in range(now - LONGEST_GAP_HOURS, now)
        if hour in earlier and name not in earlier[hour].flags
    }
    near |= {hour: found for hour, found in series.get(name, {}).items() if found is not None}
    made = filled(near, now)
    return made or (None, MISSING)


def _ahead(
    now: int, series: Series, before: Dataset | None
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Return the known values after `now` by series, and the run that fetched each series.

    Newer values replace older ones.
    """
    forward, made = dict[str, dict[str, float]](), dict[str, str]()
    if before:
        made = dict(before["made"])
        for name, values in before["forward"].items():
            forward[name] = {hour: value for hour, value in values.items() if hours.parse(hour) > now}
    for name, values in series.items():
        found = {
            hours.text(hour): value for hour, value in values.items() if hour > now and value is not None
        }
        if found:
            forward[name] = forward.get(name, {}) | found
            made[name] = hours.text(now)
    forward = {name: values for name, values in forward.items() if values}
    return forward, {name: made[name] for name in forward}


# Earlier hours


def _corrected(
    row: HourRow | None, now: int, inputs: str, series: Series, objects: Objects
) -> Dataset | None:
    """Return the next version of an earlier hour's dataset if this run's data change it, else None."""
    if row is None or row.as_of > now:
        return None
    values: Values = {place: dict(found) for place, found in row.values.items()}
    flags = dict(row.flags)
    for place, found in values.items():
        for column in COLUMNS:
            name = series_name(column, place)
            value = series.get(name, {}).get(row.hour)
            if value is None or not (column in CORRECTED or name in row.flags):
                continue
            found[column] = value
            flags.pop(name, None)
    changes = _changes(row.values, values)
    if not changes and flags == row.flags:
        return None
    dataset = _dataset(row, objects)
    dataset["values"] = values
    dataset["flags"] = flags
    dataset["status"] = datasets.status(flags, values)
    dataset["as_of"] = hours.text(now)
    dataset["inputs"] = inputs
    dataset["changes"] = changes
    return dataset


def _changes(before: Mapping[str, Mapping[str, float | None]], after: Values) -> list[str]:
    return sorted(
        {
            series_name(column, place)
            for place, found in after.items()
            for column, value in found.items()
            if before.get(place, {}).get(column) != value
        }
    )
