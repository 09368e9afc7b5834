"""Versions of an hour's dataset, which has the hour's values and the values of later hours known so far.

A version is never overwritten. The digest covers what bids depend on, so equal content makes no new version.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Protocol, TypedDict

from power_feeds import files, hours, parquet
from power_feeds.rows import COLUMNS

COMPLETE, INTERPOLATED, INCOMPLETE = "complete", "interpolated", "incomplete"
Values = dict[str, dict[str, float | None]]
"""Values of `COLUMNS` by location."""


class Dataset(TypedDict):
    hour: str
    version: int
    status: str
    flags: dict[str, str]
    """For each series whose value is not from the source: how it was made, or `missing`."""
    values: Values
    forward: dict[str, dict[str, float]]
    """Known values of later hours, by series."""
    made: dict[str, str]
    """For each series in `forward`, the run that fetched it."""
    as_of: str
    """The run that made this version."""
    inputs: str
    """Digest of the input of the run `as_of`."""
    changes: list[str]
    """The series whose values differ from the previous version."""


class Objects(Protocol):
    """Objects in the bucket."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, body: bytes, content_type: str) -> None: ...

    def put_new(self, key: str, body: bytes, content_type: str) -> bool:
        """Write the object unless it exists; return whether it was written."""
        ...


def key(hour: int, version: int) -> str:
    return f"{files.folder('datasets', hour)}v{version}.json"


def table_key(hour: int, version: int) -> str:
    """Return the key of the dataset's Parquet file. It has its own folder: Athena reads whole folders."""
    return f"{files.folder('hours', hour)}v{version}.parquet"


def digest(dataset: Dataset) -> str:
    """Return the SHA-256 of the content: values, flags and later hours."""
    content = {name: dataset[name] for name in ("hour", "status", "flags", "values", "forward")}
    return hashlib.sha256(_json(content)).hexdigest()


def encoded(dataset: Dataset) -> bytes:
    return _json(dataset)


def decoded(body: bytes) -> Dataset:
    return json.loads(body)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def status(flags: Mapping[str, str], values: Values) -> str:
    """Return the status of an hour. Its day-ahead price is required, other values may be missing."""
    if any(row.get("price") is None for row in values.values()):
        return INCOMPLETE
    return INTERPOLATED if flags else COMPLETE


def table(dataset: Dataset) -> bytes:
    """Return the dataset as Parquet: one row for each location, a missing number as NaN."""
    locations = sorted(dataset["values"])
    columns: dict[str, Sequence[str] | Sequence[int] | Sequence[float]] = {
        "hour_utc": [dataset["hour"]] * len(locations),
        "version": [dataset["version"]] * len(locations),
        "status": [dataset["status"]] * len(locations),
        "as_of": [dataset["as_of"]] * len(locations),
        "location": locations,
    }
    for name in COLUMNS:
        found = [dataset["values"][location].get(name) for location in locations]
        columns[name] = [math.nan if value is None else float(value) for value in found]
    columns["flags"] = [json.dumps(dataset["flags"], sort_keys=True)] * len(locations)
    return parquet.write(columns)


def store(objects: Objects, dataset: Dataset) -> Dataset:
    """Write the dataset as a new version; return the dataset that is stored under this version.

    An interrupted or concurrent run may already have written this version. In this case the stored dataset is
    returned and its Parquet file is written; the caller commits it before its own dataset.
    """
    place = hours.parse(dataset["hour"]), dataset["version"]
    if not objects.put_new(key(*place), encoded(dataset), "application/json"):
        there = objects.get(key(*place))
        if there is None:
            raise OSError(f"the dataset {key(*place)} exists and cannot be read")
        dataset = decoded(there)
    objects.put(table_key(*place), table(dataset), "application/vnd.apache.parquet")
    return dataset
