"""Compare real-time curves with a rolling linear program, its dual and a self-schedule, on real prices.

    python -m benchmarks.power_bidding.real_time --zone nyc north hb_south --json out/real_time.json

You must provide the prices: `nyiso/*.parquet` and `ercot/*.parquet` in the folder GROUNDPLAN_DATA. Measures
in a separate Python environment, on one thread. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.power_bidding import inside

FILES = {
    "nyc": "nyiso/nyc_2018_2019.parquet",
    "north": "nyiso/north_2018_2019.parquet",
    "hb_south": "ercot/hb_south_2024.parquet",
}


def main(arguments: list[str] | None = None) -> int:
    return inside.run("traded", vars(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.power_bidding.real_time", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--tuning", action="store_true", help="trade in the tuning period, not in the evaluation period"
    )
    return with_prices(parser, arguments)


def with_prices(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Add the options `--zone`, `--data` and `--json`, and parse the arguments. The returned paths are
    absolute."""
    add = parser.add_argument
    add(
        "--zone", nargs="+", choices=FILES, default=list(FILES), metavar="ZONE", help=f"of {', '.join(FILES)}"
    )
    add("--data", type=Path, metavar="FOLDER", help="folder with the price files (GROUNDPLAN_DATA)")
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    folder = options.data or os.environ.get("GROUNDPLAN_DATA")
    if not folder:
        parser.error("give --data or set GROUNDPLAN_DATA: a folder with the price files")
    options.data = Path(folder).resolve()
    for zone in options.zone:
        if not (options.data / FILES[zone]).is_file():
            parser.error(f"there is no file {FILES[zone]} in {options.data}")
    if options.json:
        options.json = options.json.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
