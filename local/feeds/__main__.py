"""Replay a history of prices, load and weather through the market operators' APIs.

    python -m local.feeds --history FILE.csv --zone America/Chicago --start HOUR --rate 360

Prints one line of JSON when it is ready: `url`, `secret` (for Secrets Manager) and `control` (the key for
control calls). Ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from zoneinfo import ZoneInfo

from local.feeds import history, times
from local.feeds.clock import ReplayClock
from local.feeds.curves import asset_of
from local.feeds.market import Market
from local.feeds.server import SHAPES, FeedServer
from local.feeds.world import World

PRICES = {"caiso": (-150.0, 2_000.0), "ercot": (-250.0, 5_000.0)}
"""Minimum and maximum price of an offer in $/MWh, by market operator (`--shape`)"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="local.feeds", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--history", type=Path, required=True, help="CSV: hour_utc, price:LOCATION, load, ..."
    )
    parser.add_argument("--zone", type=ZoneInfo, required=True, help="the market's time zone")
    parser.add_argument(
        "--start", type=times.parse, required=True, help="the replay's first hour, such as 2022-01-31T05:00Z"
    )
    parser.add_argument("--rate", type=float, default=1, help="replay seconds per real second")
    parser.add_argument("--paused", action="store_true", help="start with the clock paused")
    parser.add_argument(
        "--shape", choices=SHAPES, default="ercot", help="market operator whose API is imitated"
    )
    parser.add_argument(
        "--load",
        choices=("published", "metered"),
        default="published",
        help="whether load in the history is a published forecast or metered",
    )
    parser.add_argument(
        "--assets", type=Path, help="JSON: a list of objects with name, location, power, energy, ..."
    )
    parser.add_argument("--floor", type=float, help="lowest price of an offer, in $/MWh")
    parser.add_argument("--cap", type=float, help="highest price of an offer, in $/MWh")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    return parser


def main() -> None:
    given = _parser().parse_args()
    try:
        clock = ReplayClock(given.start, given.rate, paused=given.paused)
        world = World(history.read(given.history), given.zone, clock, given.load == "metered")
        listed = json.loads(given.assets.read_text()) if given.assets else []
        assets = {asset.name: asset for asset in map(asset_of, listed)}
        floor, cap = PRICES[given.shape]
        floor, cap = floor if given.floor is None else given.floor, cap if given.cap is None else given.cap
        server = FeedServer(world, Market(world, assets, floor, cap), given.shape, given.port)
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f"local.feeds: {error}")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    ready = {"url": server.url, "secret": server.secret(), "control": server.control_key}
    print(json.dumps(ready), flush=True)
    ended.wait()
    server.stop()


if __name__ == "__main__":
    main()
