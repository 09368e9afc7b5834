"""Fault benchmark: inject a fault in each hour of a replay, and record the outcome of the hour's offer.

    python -m benchmarks.power_bidding.faults --json out/faults.json
    python -m benchmarks.power_bidding.faults --times 3 --kinds throttled restarted

Deploys the project's stack to a separate local cloud, with IAM enforced. Replays hours of a market with a
fault in each hour, and removes the cloud. Exits with 1 if an hour was lost, an offer was sent twice, or a
fault was not injected often enough. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.power_bidding.faults.no_offers import NoOffers
from benchmarks.power_bidding.faults.outcomes import OUTCOMES, Hour, missing, settle, table
from benchmarks.power_bidding.faults.plan import KINDS, Queue, plan
from benchmarks.power_bidding.faults.run import HourlyRun
from local.cloud import LocalCloud
from local.feeds.faults import FEEDS
from local.names import resolve_localhost
from local.reaper import Reaper, ended_with_us
from scenarios import Progress
from scenarios.power_bidding import steps
from scenarios.power_bidding.desk import Desk
from scenarios.power_bidding.history import Replay, history, later
from scenarios.power_bidding.replay import replaying
from tooling.table import print_table

STACK = "groundplan-dev-power-bidding"
SETTINGS = {
    # More time for each offer: a replay shortens the hours, but not retry pauses and restarts
    "power_bidding.lead_hours": "18",
    "power_bidding.late_minutes": "60",
    # So that only trials start the retraining pipeline
    "power_bidding.model_max_age_hours": "8760",
    "power_bidding.retrain_pause_hours": "8760",
}
MOST_RATE = 2100
"""Maximum replay rate: market hours per real hour."""
ROOM = 45
"""An offer may take this many times as long as in the rehearsal. It is generous because faults, trainings and
restarts load the machine more than an ordinary hour."""
PACE = steps.Plan(hours=0, rate=MOST_RATE, room=ROOM, load_down=0, weather_late=0, retrained=0, corrected=0)
REHEARSED = 5
"""Number of rehearsal runs before the replay."""


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    began = time.monotonic()

    said = ""

    def say(line: str) -> None:
        nonlocal said
        if line != said:
            print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)
        said = line

    with (
        tempfile.TemporaryDirectory(prefix="groundplan-faults-") as home,
        ended_with_us() as reaper,
        contextlib.ExitStack() as servers,
    ):
        cloud = LocalCloud(Path(home, "cloud"))

        def end(number: int, _: object) -> None:
            """Stop the servers and exit at once: other threads may still be waiting for the stopped cloud."""
            servers.close()
            cloud.stop()
            shutil.rmtree(home, ignore_errors=True)
            os._exit(128 + number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        figures = measured(cloud, reaper, servers, options, Path(home), say)
    report(figures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["clean"] else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.power_bidding.faults",
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--times", type=int, default=30, metavar="N", help="number of hours with each fault")
    add(
        "--kinds",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        metavar="KIND",
        help=f"of {', '.join(KINDS)}",
    )
    add(
        "--together",
        type=int,
        default=len(FEEDS),
        choices=(1, 2, 4),
        help="number of feeds that fail in one hour",
    )
    add("--busy", type=int, default=2, metavar="N", help="number of busy processes that load the machine")
    add("--seed", type=int, default=1, help="seed of the order of the trials and of random choices in them")
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.times < 1:
        parser.error("--times must be a whole number from 1")
    if options.busy < 0:
        parser.error("--busy must be a whole number from 0")
    return options


def measured(
    cloud: LocalCloud,
    reaper: Reaper,
    servers: contextlib.ExitStack,
    options: argparse.Namespace,
    folder: Path,
    say: Progress,
) -> dict[str, Any]:
    """Start the cloud, run the replay, stop the cloud, and return the figures.

    :param servers: other servers to stop at the end are added here
    """
    chance = random.Random(options.seed)  # noqa: S311 - no secret
    with cloud:
        reaper.adopt(cloud.status()["pid"])
        context = steps.prepare(say) | SETTINGS
        say("deploying the stack")
        outputs = cloud.deploy(STACK, context=context)[STACK]
        outside = dict(os.environ)
        os.environ.update(cloud.env())
        resolve_localhost()
        cloud.enforce_iam(True)

        def restart() -> None:
            cloud.crash()
            inside = dict(os.environ)
            # the local cloud must not inherit its own address as its AWS endpoint
            replace_environment(outside)
            cloud.start()
            replace_environment(inside)
            reaper.adopt(cloud.status()["pid"])

        replay, desk = history(say), Desk(outputs, MOST_RATE)
        before = later(replay.first, -1)
        feeds = servers.enter_context(replaying(replay, before, MOST_RATE, desk.assets(), folder))
        desk.credentials(feeds.secret)
        desk.clock(before, 1)
        desk.import_history(replay)
        desk.first_model(replay, say)
        with busy(options.busy, reaper):
            say("rehearsing offers before the clock starts")
            seconds = rehearsed(desk, replay)
            desk.rate = steps.sustained_rate(seconds, desk.notice_hours, PACE)
            feeds.clock(rate=desk.rate)
            say(f"an offer takes {seconds:.1f} s, so an hour of the market takes {3600 / desk.rate:.1f} s")
            queue = Queue(plan(options.kinds, options.times, options.together, chance), chance)
            said_before = NoOffers(desk)
            begun = time.monotonic()
            run = HourlyRun(cloud, desk, feeds, replay, restart, seconds, chance, say)
            run.live(queue)
            took = time.monotonic() - begun
        results = feeds.results()
        unalarmed = NoOffers(desk).unalarmed(said_before)
        rows = desk.rows()
    wrong = settle(run.hours, rows, results)
    return figures(run, rows, results, wrong, unalarmed, took, options)


def rehearsed(desk: Desk, replay: Replay) -> float:
    """Rehearse the replay with a stopped clock. Return the seconds that the slowest offer took.

    The first run does not count, because it includes cold starts.
    """
    runs = [later(replay.first, number) for number in range(-REHEARSED, 0)]
    return max([steps.follow(desk, desk.start(run), run) for run in runs][1:])


def replace_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


@contextlib.contextmanager
def busy(count: int, reaper: Reaper) -> Iterator[None]:
    """Keep `count` cores busy until the context ends."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        for process in processes:
            reaper.adopt(process.pid)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
            reaper.release(process.pid)


def figures(
    run: HourlyRun,
    rows: list[dict[str, Any]],
    results: dict[str, Any],
    wrong: int,
    unalarmed: int,
    seconds: float,
    options: argparse.Namespace,
) -> dict[str, Any]:
    outcomes = Counter(hour.outcome for hour in run.hours)
    found = table(run.hours, options.kinds)
    day_ahead = Counter(row["status"] for row in rows if row["offer"].endswith("#DA"))
    model, fallback, no_offer, lost = (outcomes[each] for each in OUTCOMES)
    metrics = {
        "hours": len(run.hours),
        "lost_hours": lost,
        "double_bids": results["double"],
        "late_bids": results["late"],
        "offers_of_the_model": model,
        "fallback_hours": fallback,
        "no_offer_hours": no_offer,
        "unalarmed_no_offers": unalarmed,
        "rows_unlike_the_market": wrong,
        "day_ahead_offers": day_ahead["sent"],
        "no_offer_day_ahead_hours": day_ahead["no_offer"],
        "replay_rate": run.rate,
        "most_seconds_behind": round(run.most_behind, 1),
        "held_seconds": round(run.clock.held_seconds, 1),
        "busy": options.busy,
        "seconds": round(seconds, 1),
    }
    short = missing(found, options.times)
    return {
        "metrics": metrics,
        "clean": not (metrics["lost_hours"] or metrics["double_bids"] or short),
        "short": short,
        "table": [vars(row) for row in found],  # `asdict` cannot copy a Counter
        "hours": [shown(hour) for hour in run.hours],
    }


def shown(hour: Hour) -> dict[str, Any]:
    return {
        "run": hour.run,
        "faults": [fault.name for fault in hour.trial.faults],
        "missed": [fault.name for fault in hour.missed],
        "outcome": hour.outcome,
        "row": hour.row,
        "doubles": hour.doubles,
        "flagged": hour.flagged,
        "notes": hour.notes,
    }


def report(figures: dict[str, Any]) -> None:
    print("\noutcomes of the hours' offers")
    heads = ["fault", "hours", *OUTCOMES, "double", "data flagged"]
    rows = [
        (
            row["name"],
            row["hours"],
            *(row["outcomes"].get(each, 0) for each in OUTCOMES),
            row["doubles"],
            row["flagged"],
        )
        for row in figures["table"]
    ]
    print_table(rows, heads)
    print("\nfigures")
    print_table(list(figures["metrics"].items()))
    for hour in figures["hours"]:
        if hour["outcome"] == OUTCOMES[-1] or hour["doubles"]:
            print(
                f"  {hour['run']} {hour['outcome']}: {', '.join(hour['faults'])}: {'; '.join(hour['notes'])};"
                f" {hour['row']}"
            )
    for sentence in figures["short"]:
        print(f"  {sentence}")


if __name__ == "__main__":
    sys.exit(main())
