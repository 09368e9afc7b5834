"""The measurements of `benchmarks.data_centric.selection` and `robustness`, in a separate Python
environment."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.data_centric import bounds, mnist
from benchmarks.data_centric.runs import FULL, Cell, Experiment, Interval, Results, Row, interval, measured
from subset_training.strategies.names import UNBUDGETED
from tooling.table import print_table

RANDOM, GLISTER, INFOBATCH, FEWER = "adaptive_random", "glister", "infobatch", "fewer_epochs"
PAPER = {0.1: (6, -3.0), 0.3: (2.5, -1.2), 0.5: (1.5, -0.2)}
"""Results for LeNet on MNIST in the GLISTER paper. For each fraction of the training set: speed-up over
training on the full set, and the difference in accuracy to it in percentage points."""


class Table:
    """Rows of all runs by cell and seed. Intervals are 95 % intervals over seeds. Differences are between
    runs with the same seed."""

    def __init__(self, rows: Sequence[Row]):
        self.runs: dict[Cell, dict[int, Row]] = {}
        for row in rows:
            cell = Cell(*(row[name] for name in Cell._fields))
            self.runs.setdefault(cell, {})[row["seed"]] = row

    def mean(self, cell: Cell, column: str) -> Interval | None:
        """Return a column's mean and interval over the seeds whose row has the column."""
        values = [row[column] for row in self.runs.get(cell, {}).values() if column in row]
        return interval(values) if values else None

    def difference(self, cell: Cell, other: Cell) -> Interval | None:
        """Return the mean difference in accuracy and its interval, in percentage points, over the seeds that
        both cells have."""
        ours, theirs = self.runs.get(cell, {}), self.runs.get(other, {})
        both = sorted(ours.keys() & theirs.keys())
        return interval([ours[s]["accuracy"] - theirs[s]["accuracy"] for s in both]) if both else None


def main() -> int:
    options = parse()
    torch.set_num_threads(1)
    started = time.monotonic()
    chosen = dict(pair.partition("=")[::2] for pair in options.set)
    experiment = Experiment(mnist.pictures(), options.epochs, options.development, chosen)
    cells = cells_of(options.conditions, options.strategies, options.fractions)
    results, rows = Results(options.runs), []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        rows += measured(experiment, cells, seed, results)
        print(f"seed {seed}: {len(cells)} runs, {time.monotonic() - started:.0f} s", flush=True)
    table = Table(rows)
    for condition in options.conditions:
        show(table, condition, [cell for cell in cells if cell.condition == condition])
    report: dict[str, Any] = {
        "seeds": options.seeds,
        "epochs": options.epochs,
        "hyperparameters": chosen,
        "split": "development" if options.development else "reported",
        "rows": rows,
        "metrics": {},
    }
    for condition in options.conditions:
        report["metrics"] |= figures(table, condition, options.fractions)
    return bounds.finish(bounds.SELECTION, report, options.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    for name in ("--conditions", "--strategies"):
        add(name, nargs="+", required=True)
    add("--fractions", nargs="+", type=float, required=True)
    for name in ("--seeds", "--first-seed", "--epochs"):
        add(name, type=int, required=True)
    add("--set", nargs="+", default=[])
    for name in ("--runs", "--json"):
        add(name, type=Path)
    add("--development", action="store_true")
    return parser.parse_args()


def cells_of(conditions: Sequence[str], strategies: Sequence[str], fractions: Sequence[float]) -> list[Cell]:
    """Return a cell for each combination. Strategies in `UNBUDGETED` have only the fraction 1."""
    return [
        Cell(condition, strategy, fraction)
        for condition in conditions
        for strategy in strategies
        for fraction in ([1.0] if strategy in UNBUDGETED else fractions)
    ]


def show(table: Table, condition: str, cells: Sequence[Cell]) -> None:
    print(f"\n{condition}: 95 % intervals over seeds; differences are paired, in points of accuracy\n")
    heads = ("strategy", "fraction", "seeds", "accuracy, %", "against full", "against adaptive random")
    heads += ("CPU time, ratio to full", "selection, share of training")
    print_table([line(table, cell) for cell in cells] + paper_lines(cells), heads)


def line(table: Table, cell: Cell) -> tuple[str, ...]:
    full = table.difference(cell, Cell(cell.condition, FULL, 1.0))
    random = table.difference(cell, Cell(cell.condition, RANDOM, cell.fraction))
    return (
        cell.strategy,
        f"{cell.fraction:g}",
        str(len(table.runs.get(cell, {}))),
        shown(table.mean(cell, "accuracy"), 2),
        "" if cell.strategy == FULL else shown(full, 2, "+"),
        "" if cell.strategy == RANDOM else shown(random, 2, "+"),
        shown(table.mean(cell, "time_ratio"), 3),
        shown(table.mean(cell, "selection_share"), 3),
    )


def paper_lines(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for cell in cells:
        if cell.strategy == GLISTER and cell.fraction in PAPER:
            speedup, points = PAPER[cell.fraction]
            name, ratio = "GLISTER paper, LeNet", f"{1 / speedup:.3f}"
            found.append((name, f"{cell.fraction:g}", "", "", f"{points:+.2f}", "", ratio, ""))
    return found


def shown(given: Interval | None, digits: int, sign: str = "") -> str:
    return "" if given is None else given.shown(digits, sign)


def figures(table: Table, condition: str, fractions: Sequence[float]) -> dict[str, float]:
    """Return the figures by name. Names begin with the condition, except for the condition `clean`."""
    prefix = "" if condition == mnist.CLEAN else condition.replace(" ", "_") + "_"
    full = Cell(condition, FULL, 1.0)
    found: dict[str, float] = {}

    def add(name: str, given: Interval | None) -> None:
        if given is not None:
            found[prefix + name] = given.value
            if given.low == given.low:  # `low` is NaN if there is only one seed
                found[f"{prefix}{name}_low"] = given.low

    for fraction in fractions:
        percent = f"{100 * fraction:g}"
        glister = Cell(condition, GLISTER, fraction)
        add(f"time_ratio_{percent}", table.mean(glister, "time_ratio"))
        add(f"selection_share_{percent}", table.mean(glister, "selection_share"))
        add(f"accuracy_difference_{percent}", table.difference(glister, full))
        for other in (RANDOM, FEWER, "glister_published"):
            given = table.difference(glister, Cell(condition, other, fraction))
            add(f"over_{other}_{percent}", given)
        given = table.difference(Cell(condition, RANDOM, fraction), full)
        add(f"adaptive_random_difference_{percent}", given)
    infobatch = Cell(condition, INFOBATCH, 1.0)
    add("infobatch_forwards_saved", table.mean(infobatch, "forwards_saved"))
    add("infobatch_difference", table.difference(infobatch, full))
    return found


if __name__ == "__main__":
    sys.exit(main())
