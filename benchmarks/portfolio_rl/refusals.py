"""Check orders of exported policy files against the trading rules, and that invalid input gets no trade.

    python -m benchmarks.portfolio_rl.refusals --json out/refusals.json

Measures in a separate Python environment, on one thread. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.portfolio_rl import inside


def main(arguments: list[str] | None = None) -> int:
    return inside.run("asked", vars(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.portfolio_rl.refusals", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--orders", type=int, default=10_000_000, help="number of joint orders of each variant")
    add(
        "--exact-orders",
        type=int,
        default=200_000,
        help="number of these orders that come from the file with the exact maximum",
    )
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if not 0 < options.exact_orders < options.orders:
        parser.error("--exact-orders must be above 0 and below --orders")
    if options.json:
        options.json = options.json.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
