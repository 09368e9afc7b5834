"""Runs of strategies on MNIST, which are trained in turns, and a file with their results."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from scipy.stats import t as student

from benchmarks.data_centric import mnist
from subset_training.checkpoints import key_of
from subset_training.data import Data, Examples
from subset_training.learner import Learner
from subset_training.settings import Settings

Row = dict[str, Any]
FULL = "full"
CPU = torch.device("cpu")


class Cell(NamedTuple):
    """A configuration that is trained once for each seed."""

    condition: str
    strategy: str
    fraction: float


class Interval(NamedTuple):
    """A mean and its 95 % interval by Student's t; NaN bounds for a single value."""

    value: float
    low: float
    high: float

    def shown(self, digits: int, sign: str = "") -> str:
        return "{:{s}.{d}f} [{:{s}.{d}f}, {:{s}.{d}f}]".format(*self, s=sign, d=digits)


def interval(values: Sequence[float]) -> Interval:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Experiment:
    """Data and settings of the runs.

    :param development: use the splits for choosing settings, without the test set of reported figures
    :param chosen: further hyperparameters of all runs
    """

    pictures: Examples
    epochs: int
    development: bool = False
    chosen: Mapping[str, str] = field(default_factory=dict)

    def data(self, condition: str, seed: int) -> Data:
        given = mnist.development(self.pictures, seed) if self.development else mnist.reported(self.pictures)
        return mnist.conditioned(given, condition, seed)

    def settings(self, cell: Cell) -> Settings:
        """Return the hyperparameters of a cell. Raises `FatalError` for invalid ones."""
        own = {"strategy": cell.strategy, "fraction": str(cell.fraction), "epochs": str(self.epochs)}
        return Settings.read(own | dict(self.chosen))


class Results:
    """Rows of completed runs in a file of JSON lines, from which a stopped benchmark can continue.

    Rows with other settings or data are ignored. Changes of the code are not detected: use a new file after a
    change.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.rows: dict[tuple[str, int], Row] = {}
        if path and path.exists():
            text = path.read_text()
            complete = text[: text.rfind("\n") + 1]
            if complete != text:  # the last run was stopped during a write
                path.write_text(complete)
            for line in complete.splitlines():
                row = json.loads(line)
                self.rows[row["key"], row["seed"]] = row

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows[row["key"], row["seed"]] = row
            if self.path:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a") as handle:
                    handle.write(json.dumps(row) + "\n")

    def get(self, key: str, seed: int) -> Row | None:
        return self.rows.get((key, seed))


def take_turns(learners: Collection[Learner], told: Callable[[int], None] = lambda _: None) -> None:
    """Train all runs in turns of one epoch, so that other load on the machine affects them equally.

    :param told: called after each round with the number of epochs so far. Default: does nothing
    """
    while left := [learner for learner in learners if not learner.done]:
        for learner in left:
            learner.epoch()
        told(max(len(learner.rows) for learner in left))


def measured(experiment: Experiment, cells: Sequence[Cell], seed: int, results: Results) -> list[Row]:
    """Return a row for each cell. Runs without stored results are trained now.

    Runs of the same condition take turns. A run that is trained together with `FULL` gets `time_ratio`, its
    processor seconds divided by those of `FULL`.
    """
    rows: list[Row] = []
    for condition in dict.fromkeys(cell.condition for cell in cells):
        data = experiment.data(condition, seed)
        digest = data.digest
        own = [cell for cell in cells if cell.condition == condition]
        keys = {cell: key_of(experiment.settings(cell), digest) for cell in own}
        missing = [cell for cell in own if not results.get(keys[cell], seed)]
        learners = {cell: Learner(experiment.settings(cell), data, seed, CPU) for cell in missing}
        take_turns(learners.values())
        found = [row_of(cell, learner) | {"key": keys[cell]} for cell, learner in learners.items()]
        full = next((row["cpu_seconds"] for row in found if row["strategy"] == FULL), None)
        results.add(row | ({"time_ratio": row["cpu_seconds"] / full} if full else {}) for row in found)
        rows += [results.rows[keys[cell], seed] for cell in own]
    return rows


def row_of(cell: Cell, learner: Learner) -> Row:
    """Return the results of a completed run; accuracies in percent."""

    def total(column: str) -> float:
        return sum(row[column] for row in learner.rows)

    assert learner.data.test is not None  # noqa: S101 - both splits have a test set
    training, selection = total("training_cpu_seconds"), total("selection_cpu_seconds")
    return {
        **cell._asdict(),
        "seed": learner.seed,
        "epochs": len(learner.rows),
        "accuracy": 100 * learner.test(learner.data.test)[1],
        "validation_accuracy": 100 * learner.rows[-1]["validation_accuracy"],
        "cpu_seconds": training + selection,
        "selection_share": selection / training,
        "forwards_saved": 1 - total("examples") / (len(learner.data.train) * learner.settings.epochs),
        "selection_forwards": total("selection_forwards"),
    }
