"""Two checks on artificial histories: policies use a planted signal, and gain nothing on random walks.

    python -m benchmarks.portfolio_rl.own_prices --json out/own_prices.json

Measures in a separate Python environment, on one thread. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.portfolio_rl import inside


def main(arguments: list[str] | None = None) -> int:
    return inside.run("histories", vars(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.portfolio_rl.own_prices", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--rows", type=int, default=3000, help="number of prices in a history, held-out prices included")
    add("--seeds", type=int, default=3, help="number of histories with a planted signal; the worst counts")
    add("--walks", type=int, default=20, help="number of histories that are random walks")
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.rows < 500:
        parser.error(f"--rows must be a whole number from 500, got {options.rows}")
    if options.seeds < 1 or options.walks < 1:
        parser.error("--seeds and --walks must be whole numbers from 1")
    if options.json:
        options.json = options.json.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
