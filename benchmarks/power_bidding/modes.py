"""Revenue of the bidding modes in a market with day-ahead and real-time settlement, on real prices.

    python -m benchmarks.power_bidding.modes --zone hb_south --json out/modes.json

You must provide the prices: `nyiso/*.parquet` and `ercot/*.parquet` in the folder GROUNDPLAN_DATA. Measures
in a separate Python environment, on one thread. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.power_bidding import inside
from benchmarks.power_bidding.real_time import with_prices


def main(arguments: list[str] | None = None) -> int:
    return inside.run("awarded", vars(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.power_bidding.modes", description=(__doc__ or "").partition("\n")[0]
    )
    return with_prices(parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
