"""What the modes earn where a day-ahead award and a real-time price both settle, on real prices.

    python -m benchmarks.power_bidding.modes --zone hb_south --json out/modes.json

The prices are the user's own: `nyiso/*.parquet` and `ercot/*.parquet` in the folder GROUNDPLAN_DATA.
Measures in an environment of its own, on one thread. See benchmarks/README.md for what each figure means.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.power_bidding import inside
from benchmarks.power_bidding.real_time import FILES


def main(arguments: list[str] | None = None) -> int:
    return inside.run("awarded", vars(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.power_bidding.modes", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add(
        "--zone", nargs="+", choices=FILES, default=list(FILES), metavar="ZONE", help=f"of {', '.join(FILES)}"
    )
    add("--data", type=Path, metavar="FOLDER", help="has the price files (GROUNDPLAN_DATA)")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
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
