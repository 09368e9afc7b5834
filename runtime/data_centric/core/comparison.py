"""Compares the runs of a sweep: means with 95 % intervals, paired differences, and a recommendation.

Each run is paired with the run of the strategy `full`, which trains on all examples, with the same seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from data_centric.core.sweep import CONTROLS, FULL, Cell

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over runs with its 95 % Student's t interval. The limits of a single run are None."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        mean = statistics.fmean(values)
        if len(values) < 2:
            return cls(mean, None, None)
        half = student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        return cls(mean, mean - half, mean + half)

    def points(self) -> str:
        """Return the text of a mean difference of shares, in percentage points."""
        if self.low is None or self.high is None:
            return f"{100 * self.mean:+.2f} points"
        return f"{100 * self.mean:+.2f} points ({100 * self.low:+.2f} to {100 * self.high:+.2f})"


@dataclass(frozen=True)
class Run:
    """The training with one seed, in a job that completed."""

    cell: str
    strategy: str
    fraction: float
    seed: int
    job: str
    accuracy: float
    """Share of right answers on the test channel"""
    validation_accuracy: float
    best_validation_accuracy: float
    """Highest validation accuracy of all epochs"""
    epochs: int
    seconds: float
    """Seconds of training and of selecting examples"""
    selection_seconds: float
    billed_seconds: float
    """The run's part of the job's billed seconds, which include the job's start"""
    labels: str
    """Version of the labels; empty for a dataset without a manifest"""
    data: str
    """Digest of the training and validation examples"""


@dataclass(frozen=True)
class Outcome:
    """How the job of a cell (a strategy at a fraction) ended."""

    cell: str
    job: str
    status: str
    """Completed, Failed, Stopped or Refused"""
    reason: str
    """Reason why the job did not complete; empty if it completed"""
    billed_seconds: float


@dataclass(frozen=True)
class Row:
    """A row of the comparison table, for one cell: a strategy at a fraction."""

    cell: str
    strategy: str
    fraction: float
    status: str
    reason: str
    job: str
    runs: int
    accuracy: Interval | None
    difference: Interval | None
    """Accuracy minus that of `full` with the same seed"""
    billed_seconds: float | None
    """Mean over runs"""
    billed_ratio: float | None
    """Billed seconds divided by those of `full`"""
    seconds_ratio: float | None
    """Seconds of training and selection divided by those of `full`"""
    selection_share: float | None
    """Share of selection in the seconds of training and selection"""

    def flat(self) -> dict[str, Any]:
        """Return the row with a column for each limit of its intervals."""
        found = asdict(self)
        for name in ("accuracy", "difference"):
            interval = found.pop(name) or {"mean": None, "low": None, "high": None}
            found |= {f"{name}_{part}": value for part, value in interval.items()}
        return found


@dataclass(frozen=True)
class Recommendation:
    strategy: str | None
    fraction: float | None
    difference: Interval | None
    billed_ratio: float | None
    reason: str


def runs_of(cell: Cell, outcome: Outcome, results: Mapping[str, Any], labels: str) -> list[Run]:
    """Return the runs of a completed job.

    :param results: the job's `results.json`

    Raises `ValueError` if the results are of another strategy or fraction than the cell's, or lack the
    accuracy on the test channel.
    """
    settings, found = results["settings"], results["runs"]
    if (settings["strategy"], settings["fraction"]) != (cell.strategy, cell.fraction):
        raise ValueError(
            f"the results of {outcome.job} must be of strategy {cell.strategy} at {cell.fraction:g},"
            f" got {settings['strategy']} at {settings['fraction']:g}"
        )
    if any("test_accuracy" not in each for each in found):
        raise ValueError(f"the results of {outcome.job} have no test_accuracy")
    return [
        Run(
            cell.id,
            cell.strategy,
            cell.fraction,
            each["seed"],
            outcome.job,
            each["test_accuracy"],
            each["validation_accuracy"],
            each["best_validation_accuracy"],
            each["epochs"],
            each["seconds"],
            each["selection_seconds"],
            outcome.billed_seconds / len(found),
            labels,
            results["data"],
        )
        for each in found
    ]


def table(cells: Sequence[Cell], outcomes: Iterable[Outcome], runs: Iterable[Run]) -> list[Row]:
    """Return a row for each cell, in the order of `cells`."""
    ended = {outcome.cell: outcome for outcome in outcomes}
    own: dict[str, list[Run]] = {cell.id: [] for cell in cells}
    for run in runs:
        own[run.cell].append(run)
    full = next((own[cell.id] for cell in cells if cell.strategy == FULL), [])
    missing = Outcome("", "", "Refused", "the job has no outcome", 0)
    return [_row(cell, ended.get(cell.id, missing), own[cell.id], full) for cell in cells]


def _row(cell: Cell, outcome: Outcome, runs: Sequence[Run], full: Sequence[Run]) -> Row:
    if not runs:
        nothing = dict.fromkeys(
            ("accuracy", "difference", "billed_seconds", "billed_ratio", "seconds_ratio", "selection_share")
        )
        return Row(
            cell.id,
            cell.strategy,
            cell.fraction,
            outcome.status,
            outcome.reason,
            outcome.job,
            0,
            **nothing,  # pyright: ignore[reportArgumentType]
        )
    base = {run.seed: run.accuracy for run in full}
    paired = [run.accuracy - base[run.seed] for run in runs if run.seed in base]
    seconds = sum(run.seconds for run in runs)
    return Row(
        cell.id,
        cell.strategy,
        cell.fraction,
        outcome.status,
        outcome.reason,
        outcome.job,
        len(runs),
        Interval.of([run.accuracy for run in runs]),
        Interval.of(paired) if paired else None,
        _mean(runs, "billed_seconds"),
        _ratio(runs, full, "billed_seconds"),
        _ratio(runs, full, "seconds"),
        sum(run.selection_seconds for run in runs) / seconds if seconds else None,
    )


def _mean(runs: Sequence[Run], name: str) -> float:
    return statistics.fmean(getattr(run, name) for run in runs)


def _ratio(runs: Sequence[Run], full: Sequence[Run], name: str) -> float | None:
    base = _mean(full, name) if full else 0
    return _mean(runs, name) / base if base else None


def recommended(rows: Sequence[Row], tolerance: float) -> Recommendation:
    """Recommend the smallest fraction at which a strategy is as accurate as `full`.

    A strategy is as accurate as `full` if the 95 % interval of its paired difference has a lower limit of at
    least -`tolerance`. A run must also be billed fewer seconds than a run of `full`. Of several strategies at
    that fraction, the one with the highest lower limit is recommended. Control strategies except `full` are
    candidates too.
    """

    def none(reason: str) -> Recommendation:
        return Recommendation(None, None, None, None, reason)

    full = next((row for row in rows if row.strategy == FULL), None)
    if full is None or full.accuracy is None:
        why = f": {full.reason}" if full and full.reason else ""
        return none(f"there is no baseline, because the job of full did not complete{why}")
    judged = [
        row
        for row in rows
        if row.strategy != FULL and row.difference is not None and row.difference.low is not None
    ]
    if not judged:
        return none("an interval needs at least 2 seeds that both full and another strategy completed")
    good = [row for row in judged if _low(row) >= -tolerance and (row.billed_ratio or 1) < 1]
    allowed = f"{-100 * tolerance:+.2f} points"
    if not good:
        best = max(judged, key=_low)
        assert best.difference  # noqa: S101 - narrows the type
        reason = (
            f"no strategy costs less than full and has a difference with a lower limit of at least {allowed};"
            f" {best.strategy} at {best.fraction:g} has the highest limit: {best.difference.points()}"
        )
        return Recommendation(FULL, 1.0, Interval(0, 0, 0), 1.0, reason)
    least = min(row.fraction for row in good)
    chosen = max((row for row in good if row.fraction == least), key=_low)
    assert chosen.difference  # noqa: S101 - narrows the type
    beside = [
        f"{row.strategy} {row.difference.points()}"
        for row in judged
        if row.fraction == least and row.strategy in CONTROLS and row is not chosen and row.difference
    ]
    reason = (
        f"{chosen.strategy} at {chosen.fraction:g}: test accuracy minus that of full is"
        f" {chosen.difference.points()}, 95 % interval over {chosen.runs} seeds; the lower limit must be at"
        f" least {allowed}; a run is billed {100 * (chosen.billed_ratio or 0):.0f} % of the seconds of full"
        + (f"; at the same fraction {', '.join(beside)}" if beside else "")
        + f"; {len(judged)} cells were compared"
    )
    return Recommendation(chosen.strategy, chosen.fraction, chosen.difference, chosen.billed_ratio, reason)


def _low(row: Row) -> float:
    return row.difference.low if row.difference and row.difference.low is not None else -math.inf


@cache
def student(freedom: int) -> float:
    """Return the two-sided 95 % point of Student's t distribution, by bisection."""
    low, high = 0.0, 1000.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < LEVEL else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Return P(|T| <= t): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for number in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * number / (number + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
