"""A sweep: strategies x fractions of the examples x seeds. Its input, its jobs and their estimated cost."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FULL, FEWER_EPOCHS, ADAPTIVE_RANDOM = "full", "fewer_epochs", "adaptive_random"
CONTROLS = (FULL, FEWER_EPOCHS, ADAPTIVE_RANDOM)
"""Baselines in every sweep. A strategy that is worth its cost is better than `fewer_epochs` and
`adaptive_random`."""
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,39}")
LARGEST_SEED = 2**31 - 1
FIELDS = (
    "experiment",
    "dataset",
    "strategies",
    "fractions",
    "seeds",
    "hyperparameters",
    "attribute",
    "tolerance",
    "most_dollars",
    "search",
    "estimate_only",
)
METHODS = ("Bayesian", "Random")
SEARCH_FIELDS = ("method", "jobs", "at_once", "early_stopping")
OBJECTIVE = "validation:accuracy"
"""Metric that a search maximizes. The training container logs it after each epoch."""


class SweepError(ValueError):
    """The input of a sweep is invalid. `problems` has one sentence for each invalid value."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Limits:
    """Limits of the deployed stack."""

    strategies: Mapping[str, bool]
    """For each strategy of the training image, whether it supports a fraction"""
    hyperparameters: tuple[str, ...]
    """Hyperparameters that a sweep may set"""
    most_jobs: int
    most_seeds: int
    at_once: int
    """Maximum number of concurrent jobs"""


@dataclass(frozen=True)
class Search:
    """A hyperparameter tuning job that chooses the fractions of one strategy, in place of a given list."""

    method: str
    jobs: int
    at_once: int
    early_stopping: bool


@dataclass(frozen=True)
class Sweep:
    experiment: str
    """Name that groups the results of several sweeps"""
    dataset: str
    """Name of the dataset's folder in `datasets/`"""
    strategies: tuple[str, ...]
    """Strategies to compare: the controls, then the others"""
    fractions: tuple[float, ...]
    """Largest first; with a search, the two ends of its range"""
    seeds: tuple[int, ...]
    hyperparameters: Mapping[str, str]
    attribute: str | None
    """Label attribute of the dataset's manifest; None: the dataset has no manifest"""
    tolerance: float
    """Maximum loss of accuracy of the recommended job, compared to `full`"""
    most_dollars: float | None
    """The sweep is rejected if it can cost more"""
    search: Search | None
    estimate_only: bool

    @property
    def listed(self) -> tuple[str, ...]:
        """Strategies whose jobs are known before the sweep: with a search, only the controls."""
        return CONTROLS if self.search else self.strategies


@dataclass(frozen=True)
class Cell:
    """One training job: a strategy at a fraction, with all seeds."""

    id: str
    strategy: str
    fraction: float


def parse(given: Any, limits: Limits) -> Sweep:
    """Return the sweep that the input of an execution describes. Raises `SweepError`."""
    if not isinstance(given, Mapping):
        raise SweepError([f"the input must be an object, got {type(given).__name__}"])
    reader = _Reader(given)
    reader.refuse_unknown(FIELDS)
    sweep = Sweep(
        reader.name("experiment", "default"),
        reader.name("dataset", None),
        _strategies(reader, limits),
        _fractions(reader),
        _seeds(reader, limits),
        _hyperparameters(reader, limits),
        reader.text("attribute"),
        reader.number("tolerance", 0.01, 0, 1) or 0.0,
        reader.number("most_dollars", None, 0, math.inf),
        _search(reader, limits),
        reader.flag("estimate_only"),
    )
    if not reader.problems:
        _check_search(reader, sweep, limits)
        count = len(estimated(sweep, limits))
        if count > limits.most_jobs:
            reader.problems.append(f"a sweep must have at most {limits.most_jobs} jobs, got {count}")
    if reader.problems:
        raise SweepError(reader.problems)
    return sweep


def cells(sweep: Sweep, limits: Limits) -> list[Cell]:
    """Return the jobs of a sweep, except the jobs of its search.

    A strategy without a fraction has one job, on all examples.
    """
    pairs = [
        (strategy, fraction)
        for strategy in sweep.listed
        for fraction in (sweep.fractions if limits.strategies[strategy] else (1.0,))
    ]
    return [Cell(f"{number:03d}", *pair) for number, pair in enumerate(pairs, 1)]


def estimated(sweep: Sweep, limits: Limits) -> list[Cell]:
    """Return all jobs of a sweep, for the cost estimate.

    The search has not chosen its fractions yet, so each of its jobs has the middle of the range.
    """
    found = cells(sweep, limits)
    if sweep.search:
        middle = sum(sweep.fractions) / 2
        found += [Cell("search", sweep.strategies[-1], middle)] * sweep.search.jobs
    return found


def tuning_config(sweep: Sweep) -> dict[str, Any] | None:
    """Return the `HyperParameterTuningJobConfig` of the search; None without a search."""
    if sweep.search is None:
        return None
    high, low = sweep.fractions
    fraction = {"Name": "fraction", "MinValue": repr(low), "MaxValue": repr(high), "ScalingType": "Auto"}
    return {
        "Strategy": sweep.search.method,
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": OBJECTIVE},
        "ResourceLimits": {
            "MaxNumberOfTrainingJobs": sweep.search.jobs,
            "MaxParallelTrainingJobs": sweep.search.at_once,
        },
        "ParameterRanges": {"ContinuousParameterRanges": [fraction]},
        "TrainingJobEarlyStoppingType": "Auto" if sweep.search.early_stopping else "Off",
    }


@dataclass(frozen=True)
class Rates:
    """Limit and price of a job, and measurements of an earlier sweep of the experiment."""

    most_seconds: int
    """Maximum duration of a job"""
    hour: float | None
    """Dollars for an hour of the instance; None: unknown"""
    full_seconds: float | None = None
    """Seconds of training of one run on all examples; None: not measured"""
    start_seconds: float | None = None
    """Billed seconds of a job without its training; None: not measured"""


def estimate(sweep: Sweep, jobs: Sequence[Cell], rates: Rates) -> dict[str, Any]:
    """Return the numbers of jobs and runs of a sweep, and its maximum and expected seconds and dollars.

    The maximum does not include jobs that are restarted for lack of capacity. The expectation assumes that
    the time of a run is proportional to its fraction. It is None if no earlier sweep measured a run on all
    examples.
    """
    shares = sum(cell.fraction for cell in jobs) * len(sweep.seeds)
    most = len(jobs) * rates.most_seconds
    expected = None
    if rates.full_seconds is not None and rates.start_seconds is not None:
        expected = min(most, round(len(jobs) * rates.start_seconds + shares * rates.full_seconds))

    def dollars(seconds: int | None) -> float | None:
        return None if seconds is None or rates.hour is None else round(seconds * rates.hour / 3600, 2)

    return {
        "jobs": len(jobs),
        "runs": len(jobs) * len(sweep.seeds),
        "full_runs": round(shares, 2),
        "dollars_per_hour": rates.hour,
        "most_seconds": most,
        "most_dollars": dollars(most),
        "expected_seconds": expected,
        "expected_dollars": dollars(expected),
    }


def check_cost(sweep: Sweep, found: Mapping[str, Any]) -> None:
    """Raise `SweepError` if the sweep has a cost limit, and its maximum cost is higher or unknown."""
    limit, most = sweep.most_dollars, found["most_dollars"]
    if limit is None:
        return
    if most is None:
        raise SweepError(["most_dollars cannot be checked: the price of the instance is unknown"])
    if most > limit:
        raise SweepError(
            [f"the sweep can cost {most:.2f} dollars, more than most_dollars, which is {limit:g}"]
        )


class _Reader:
    """Reads fields, and collects a sentence for each invalid field."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given, self.problems = given, list[str]()

    def refuse_unknown(self, known: Sequence[str]) -> None:
        unknown = sorted(str(name) for name in self.given if name not in known)
        self.problems += [f"unknown field {name}, must be one of {', '.join(known)}" for name in unknown]

    def must(self, field: str, rule: str, value: Any) -> None:
        self.problems.append(f"{field} must be {rule}, got {value!r}")

    def name(self, field: str, default: str | None) -> str:
        value = self.given.get(field, default)
        if not isinstance(value, str) or not NAME.fullmatch(value):
            self.must(field, "1 to 40 letters, digits and hyphens, with a hyphen at neither end", value)
            return ""
        return value

    def text(self, field: str) -> str | None:
        value = self.given.get(field)
        if value is not None and (not isinstance(value, str) or not value):
            self.must(field, "a text that is not empty", value)
        return value

    def number(self, field: str, default: float | None, least: float, most: float) -> float | None:
        value = self.given.get(field, default)
        if value is None:
            return None
        if not is_number(value) or not least <= value <= most:
            limit = "" if math.isinf(most) else f" to {most:g}"
            self.must(field, f"a number from {least:g}{limit}", value)
            return None
        return float(value)

    def whole(self, field: str, least: int, most: int, default: int | None = None) -> int:
        value = self.given.get(field, default)
        if type(value) is not int or not least <= value <= most:
            self.must(field, f"a whole number from {least} to {most}", value)
            return least
        return value

    def flag(self, field: str) -> bool:
        value = self.given.get(field, False)
        if not isinstance(value, bool):
            self.must(field, "true or false", value)
        return bool(value)

    def list(self, field: str, default: list[Any] | None) -> list[Any]:
        value = self.given.get(field, default)
        if not isinstance(value, list) or not value:
            self.must(field, "a list that is not empty", value)
            return []
        if len({repr(item) for item in value}) < len(value):
            self.must(field, "a list without repetitions", value)
        return value


def _search(reader: _Reader, limits: Limits) -> Search | None:
    given = reader.given.get("search")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        reader.must("search", "an object", given)
        return None
    inner = _Reader(given)
    inner.refuse_unknown(SEARCH_FIELDS)
    method = given.get("method", METHODS[0])
    if method not in METHODS:
        inner.must("method", f"one of {', '.join(METHODS)}", method)
    jobs = inner.whole("jobs", 1, limits.most_jobs)
    found = Search(
        method, jobs, inner.whole("at_once", 1, min(jobs, limits.at_once), 1), inner.flag("early_stopping")
    )
    reader.problems += [f"search: {problem}" for problem in inner.problems]
    return found


def _check_search(reader: _Reader, sweep: Sweep, limits: Limits) -> None:
    """Check that the search is over the fraction of one strategy, between two limits."""
    if sweep.search is None:
        return
    searched = [name for name in sweep.strategies if name not in CONTROLS]
    if len(searched) != 1 or not limits.strategies[searched[0]]:
        reader.problems.append(
            "for a search, strategies must have exactly one strategy with a fraction besides the controls,"
            f" got {', '.join(searched) or 'none'}"
        )
    if len(sweep.fractions) != 2:
        got = ", ".join(f"{fraction:g}" for fraction in sweep.fractions)
        reader.problems.append(f"for a search, fractions must be the two ends of the range, got {got}")


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and not math.isnan(value)


def _strategies(reader: _Reader, limits: Limits) -> tuple[str, ...]:
    found = []
    for value in reader.list("strategies", None):
        if not isinstance(value, str) or value not in limits.strategies:
            reader.must("strategies", f"among {', '.join(limits.strategies)}", value)
        elif value not in CONTROLS:
            found.append(value)
    return (*CONTROLS, *dict.fromkeys(found))


def _fractions(reader: _Reader) -> tuple[float, ...]:
    found = []
    for value in reader.list("fractions", None):
        if not is_number(value) or not 0 < value <= 1:
            reader.must("fractions", "numbers above 0 and up to 1", value)
        else:
            found.append(float(value))
    return tuple(sorted(set(found), reverse=True))


def _seeds(reader: _Reader, limits: Limits) -> tuple[int, ...]:
    found = reader.list("seeds", None)
    for value in found:
        if type(value) is not int or not 0 <= value <= LARGEST_SEED:
            reader.must("seeds", f"whole numbers from 0 to {LARGEST_SEED}", value)
    if len(found) > limits.most_seeds:
        reader.problems.append(f"seeds must be at most {limits.most_seeds} numbers, got {len(found)}")
    return tuple(found)


def _hyperparameters(reader: _Reader, limits: Limits) -> dict[str, str]:
    given = reader.given.get("hyperparameters", {})
    if not isinstance(given, Mapping):
        reader.must("hyperparameters", "an object", given)
        return {}
    found = {}
    for name, value in given.items():
        if name not in limits.hyperparameters:
            reader.problems.append(
                f"unknown hyperparameter {name}, must be one of {', '.join(limits.hyperparameters)}"
            )
        elif isinstance(value, bool):
            found[name] = str(value).lower()
        elif isinstance(value, str) or is_number(value):
            found[name] = str(value)
        else:
            reader.must(f"hyperparameter {name}", "a text, a number, true or false", value)
    return found
