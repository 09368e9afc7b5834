"""Processor time to re-solve the storage program with HiGHS, compared with SciPy's `linprog`.

    python -m benchmarks.power_bidding.lp_speed --json out/lp_speed.json

Measures in a separate Python environment, on one thread. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.power_bidding import inside


def main(arguments: list[str] | None = None) -> int:
    return inside.run("solved", vars(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.power_bidding.lp_speed", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add(
        "--instances",
        type=int,
        default=1000,
        help="number of programs of 24 hours, with random prices and levels",
    )
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.instances < 1:
        parser.error(f"--instances must be a whole number from 1, got {options.instances}")
    if options.json:
        options.json = options.json.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
