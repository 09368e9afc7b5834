"""The measurements of `benchmarks.data_centric.cifar`, which run in a separate Python environment."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch

from benchmarks.data_centric import bounds
from benchmarks.data_centric.cifar import FILES
from benchmarks.data_centric.runs import FULL, Cell, Results, Row, take_turns
from benchmarks.data_centric.selection_table import FEWER, GLISTER, RANDOM, Table, shown
from subset_training.checkpoints import key_of
from subset_training.data import Data, Examples, split
from subset_training.learner import Learner
from subset_training.reading import Decoding, decoded
from subset_training.recipes import FAST
from subset_training.settings import Settings
from tooling.table import print_table
from toolkit.failure import FatalError

CLASSES = tuple(map(str, range(10)))
VALIDATION = 0.1
SUBSETS = "subsets"
"""Value of `Cell.condition` for all runs except the run of the fast recipe, which has `FAST`."""
SOURCE_EPOCHS = 100
SOURCE = {1.0: (92.72, 1.0), 0.5: (91.42, 0.48), 0.3: (89.76, 0.31), 0.1: (82.82, 0.10)}
"""Results in the AWS post, for ResNet-18 on a V100. For each fraction of the training set: accuracy in
percent, and the median seconds of an epoch divided by those of training on the full set."""


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.whole and device.type == "cpu":
        raise SystemExit("--whole needs a GPU: without one, choose --pictures, --epochs and --model")
    started = time.monotonic()
    data = pictures(options.data, options.pictures)
    try:
        chosen = settings_of(options)
    except FatalError as failure:
        raise SystemExit(str(failure)) from None
    print(
        f"{len(chosen)} runs for each seed, {len(data.train)} training pictures, on {device.type}"
        f" ({options.threads} threads)",
        flush=True,
    )
    results, rows = Results(options.runs), []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        rows += measured(chosen, data, seed, device, results, started)
    table = Table(rows)
    show(table, list(chosen), chosen)
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{options.threads} CPU threads",
        "pictures": options.pictures,
        "seeds": options.seeds,
        "hyperparameters": {SUBSETS: options.set, FAST: options.fast_set},
        "rows": rows,
        "source": {str(fraction): found for fraction, found in SOURCE.items()},
        "metrics": figures(table, list(chosen)),
    }
    return bounds.finish(bounds.CIFAR, report, options.json)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--whole", action="store_true")
    for name in ("--model", "--fast-model"):
        add(name, required=True)
    add("--fractions", nargs="+", type=float, required=True)
    for name in ("--pictures", "--epochs", "--fast-epochs", "--seeds", "--first-seed", "--threads"):
        add(name, type=int, required=True)
    for name in ("--set", "--fast-set"):
        add(name, nargs="+", default=[])
    for name in ("--runs", "--json"):
        add(name, type=Path)
    return parser.parse_args(arguments)


def pictures(folder: Path, count: int) -> Data:
    """Return `count` pictures of the training set, a tenth of them for validation, and the test set."""
    train, test = (folder / name for name in FILES)
    known, held = split(examples(train, count // len(CLASSES)), CLASSES, VALIDATION)
    return Data(known, held, examples(test), CLASSES, ())


def examples(path: Path, each: int | None = None) -> Examples:
    """Return the pictures of a file; with `each`, only the first `each` pictures of every class."""
    table = pyarrow.parquet.read_table(path, columns=["label", "jpeg"])
    labels = torch.tensor(table["label"].to_pylist())
    members = [(labels == number).nonzero().squeeze(1)[:each] for number in range(len(CLASSES))]
    chosen = torch.cat(members).sort().values
    contents = table["jpeg"].take(chosen.numpy()).to_pylist()
    images = np.stack([decoded(content, Decoding()) for content in contents])
    return Examples(torch.from_numpy(images), labels[chosen])


def settings_of(options: argparse.Namespace) -> dict[Cell, Settings]:
    """Return the hyperparameters of each configuration (`Cell`). Raises `FatalError` for invalid ones."""
    found: dict[Cell, Settings] = {}
    cells = [(FULL, 1.0), *((name, part) for name in (FEWER, RANDOM, GLISTER) for part in options.fractions)]
    for strategy, fraction in cells:
        own = {"strategy": strategy, "fraction": str(fraction), "epochs": str(options.epochs)}
        own |= {"model": options.model} | hyperparameters(options.set)
        found[Cell(SUBSETS, strategy, fraction)] = Settings.read(own)
    own = {"strategy": FULL, "recipe": FAST, "epochs": str(options.fast_epochs)}
    own |= {"model": options.fast_model} | hyperparameters(options.fast_set)
    found[Cell(FAST, FULL, 1.0)] = Settings.read(own)
    for each in found.values():
        each.check()
    return found


def hyperparameters(pairs: Sequence[str]) -> dict[str, str]:
    """Return the hyperparameters in `pairs`, texts of the form NAME=VALUE. If a name is repeated, its last
    value is used."""
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def measured(
    chosen: Mapping[Cell, Settings],
    data: Data,
    seed: int,
    device: torch.device,
    results: Results,
    started: float,
) -> list[Row]:
    """Return a row of results for each cell. Runs without stored results are trained, in turns of one epoch.

    If `FULL` is among the runs that are trained, their rows get `time_ratio` and `median_ratio`: their times
    divided by those of `FULL`.
    """
    digest = f"{data.digest} {device.type}"
    keys = {cell: key_of(settings, digest) for cell, settings in chosen.items()}
    learners = {
        cell: Learner(settings, data, seed, device)
        for cell, settings in chosen.items()
        if not results.get(keys[cell], seed)
    }
    most = max((learner.epochs for learner in learners.values()), default=0)

    def told(epoch: int) -> None:
        print(f"seed {seed}, epoch {epoch} of {most}: {time.monotonic() - started:.0f} s", flush=True)

    take_turns(learners.values(), told)
    found = [row_of(cell, learner) | {"key": keys[cell]} for cell, learner in learners.items()]
    full = next((row for row in found if (row["condition"], row["strategy"]) == (SUBSETS, FULL)), None)
    if full:
        for row in found:
            row["time_ratio"] = row["seconds"] / full["seconds"]
            row["median_ratio"] = row["median_epoch_seconds"] / full["median_epoch_seconds"]
    results.add(found)
    return [results.rows[key, seed] for key in keys.values()]


def row_of(cell: Cell, learner: Learner) -> Row:
    """Return the results of a completed run; accuracies in percent.

    Seconds are clock time on a GPU. On a CPU, which other programs use too, they are processor time.
    """
    assert learner.data.test is not None  # noqa: S101 - the data has a test set
    kind = "seconds" if learner.device.type == "cuda" else "cpu_seconds"
    training, selection = (
        [row[f"{part}_{kind}"] for row in learner.rows] for part in ("training", "selection")
    )
    epochs = [sum(each) for each in zip(training, selection, strict=True)]
    return {
        **cell._asdict(),
        "model": learner.settings.model,
        "seed": learner.seed,
        "epochs": len(epochs),
        "accuracy": 100 * learner.test(learner.data.test)[1],
        "validation_accuracy": 100 * learner.rows[-1]["validation_accuracy"],
        "seconds": sum(epochs),
        "median_epoch_seconds": statistics.median(epochs),
        "selection_share": sum(selection) / sum(training),
    }


def show(table: Table, cells: Sequence[Cell], chosen: Mapping[Cell, Settings]) -> None:
    print("\n95 % intervals over seeds; differences are paired, in points of accuracy\n")
    heads = ("run", "model", "fraction", "epochs", "accuracy, %", "against full")
    heads += ("median epoch, ratio to full", "all epochs, ratio to full", "selection, share of training")
    print_table([line(table, cell, chosen[cell]) for cell in cells] + source_lines(cells), heads, left=(0, 1))


def line(table: Table, cell: Cell, settings: Settings) -> tuple[str, ...]:
    full = table.difference(cell, Cell(SUBSETS, FULL, 1.0))
    return (
        "fast recipe, full" if cell.condition == FAST else cell.strategy,
        settings.model,
        f"{cell.fraction:g}",
        f"{epochs_of(table, cell)}",
        shown(table.mean(cell, "accuracy"), 2),
        "" if cell == Cell(SUBSETS, FULL, 1.0) else shown(full, 2, "+"),
        shown(table.mean(cell, "median_ratio"), 3),
        shown(table.mean(cell, "time_ratio"), 3),
        shown(table.mean(cell, "selection_share"), 3),
    )


def epochs_of(table: Table, cell: Cell) -> int:
    return next(iter(table.runs[cell].values()))["epochs"]


def source_lines(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """Return table lines with the AWS post's results for the fractions that `cells` contain."""
    return [
        (
            "source, V100",
            "resnet18",
            f"{fraction:g}",
            f"{SOURCE_EPOCHS}",
            f"{accuracy:.2f}",
            f"{accuracy - SOURCE[1.0][0]:+.2f}" if fraction < 1 else "",
            f"{ratio:.3f}",
            "",
            "",
        )
        for fraction, (accuracy, ratio) in SOURCE.items()
        if fraction in {cell.fraction for cell in cells}
    ]


def figures(table: Table, cells: Sequence[Cell]) -> dict[str, float]:
    """Return the figures by name."""
    found: dict[str, float] = {}
    for cell in cells:
        name = "fast_recipe" if cell.condition == FAST else cell.strategy
        end = f"_{100 * cell.fraction:g}" if cell.fraction < 1 else ""
        found[f"epochs_{name}{end}"] = epochs_of(table, cell)
        for column in ("accuracy", "median_ratio", "time_ratio"):
            if given := table.mean(cell, column):
                found[f"{column}_{name}{end}"] = given.value
        if given := table.difference(cell, Cell(SUBSETS, FULL, 1.0)):
            found[f"accuracy_difference_{name}{end}"] = given.value
    return found


if __name__ == "__main__":
    sys.exit(main())
