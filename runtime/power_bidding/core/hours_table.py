"""The table `Hours`: the current version of each hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from power_bidding.core import datasets
from power_bidding.core.datasets import Dataset, Objects
from power_feeds import hours

TRIES = 8
"""Maximum number of attempts of a commit that conflicts with other writers."""


@dataclass(frozen=True)
class HourRow:
    hour: int
    version: int
    status: str
    digest: str
    key: str
    flags: Mapping[str, str]
    values: Mapping[str, Mapping[str, float | None]]
    as_of: int
    inputs: str
    changes: Sequence[str]


class Hours(Protocol):
    def row(self, hour: int) -> HourRow | None:
        """Return the current row; None if it does not exist."""
        ...

    def rows(self, of: Sequence[int]) -> dict[int, HourRow]:
        """Return the current rows of those hours that have a row."""
        ...

    def put(self, row: HourRow, before: int) -> bool:
        """Write the row if the stored version is `before` (0: no row); return whether it was written."""
        ...


def row_of(dataset: Dataset) -> HourRow:
    hour = hours.parse(dataset["hour"])
    return HourRow(
        hour=hour,
        version=dataset["version"],
        status=dataset["status"],
        digest=datasets.digest(dataset),
        key=datasets.key(hour, dataset["version"]),
        flags=dataset["flags"],
        values=dataset["values"],
        as_of=hours.parse(dataset["as_of"]),
        inputs=dataset["inputs"],
        changes=dataset["changes"],
    )


def commit(
    hour: int, make: Callable[[HourRow | None], Dataset | None], table: Hours, objects: Objects
) -> HourRow | None:
    """Make the next version of an hour; return the current row.

    May be killed at any point and repeated with the same result: a version is an object that is written once,
    then the row refers to it.

    :param make: gets the current row and returns the next dataset, or None to change nothing; this function
        sets the dataset's version. Called again if another writer has written a version
    """
    for _ in range(TRIES):
        before = table.row(hour)
        made = make(before)
        if made is None or (before and datasets.digest(made) == before.digest):
            return before
        made["version"] = before.version + 1 if before else 1
        stored = datasets.store(objects, made)
        after = row_of(stored)
        if table.put(after, before.version if before else 0) and stored == made:
            return after
    raise RuntimeError(f"could not write {hours.text(hour)}: other writers changed its row at every attempt")
