"""Label quality on scikit-learn's digits: consensus, label errors, duplicates, outliers, redundant examples.

    python -m benchmarks.data_centric.labels --seeds 10 --json out/labels.json
    python -m benchmarks.data_centric.labels --only consensus errors

Measures in a separate Python environment, on one thread. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.data_centric import inside

PARTS = ("consensus", "errors", "similar", "reasons", "redundant")


def main(arguments: list[str] | None = None) -> int:
    return inside.run("labels_measured", vars(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.data_centric.labels", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--seeds", type=int, default=10, help="number of seeds")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure (all)")
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.seeds < 5:
        parser.error(f"--seeds must be a whole number from 5, got {options.seeds}")
    if options.json:
        options.json = options.json.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
