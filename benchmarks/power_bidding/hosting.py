"""Cold starts and cost of the serverless endpoint, compared with a provisioned instance.

    .groundplan/envs/app/bin/python -m benchmarks.power_bidding.hosting --json out/hosting.json
    .groundplan/envs/app/bin/python -m benchmarks.power_bidding.hosting --seconds 6.2 0.9

Deploys the project's stack to a separate local cloud, trains the first model, and invokes its endpoint. With
`--seconds`, computes only the costs, for durations measured elsewhere. See benchmarks/README.md for what each
figure means.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.power_bidding.hosting_costs import HOURS, Costs
from benchmarks.power_bidding.hosting_images import images
from local.cloud import LocalCloud
from local.sagemaker.prices import list_price
from scenarios import Metric
from scenarios.power_bidding import steps
from scenarios.power_bidding.desk import Desk, wait_until
from scenarios.power_bidding.history import Replay, history, later
from scenarios.power_bidding.replay import replaying
from settings import load
from settings.power_bidding import PowerBidding
from tooling.table import print_table

STACK = "groundplan-dev-power-bidding"
REGION = "us-east-1"
"""Region of the list prices"""
SOURCE_RATIO = 0.2
"""Ratio of costs in the published solution, which reports that serverless hosting saves 80 %."""
HISTORY_HOURS = 24 * 392
"""Hours of prices in a production request: 392 days"""
WARM = 5
"""Warm invocations after each cold start"""
GONE_SECONDS = 60
ANSWER_SECONDS = 240

METRICS = (
    Metric(
        "serverless_cold_start_ratio", "First invocation divided by the median warm one, median of the starts"
    ),
    Metric("seconds_first", "Duration of an invocation that starts the container, median", "s"),
    Metric("seconds_first_longest", "Duration of an invocation that starts the container, longest", "s"),
    Metric("seconds_warm", "Duration of an invocation of a running container, median", "s"),
    Metric("request_bytes", "Size of a request with 392 days of prices", "bytes"),
    Metric("image_megabytes", "Size of the files that the serving image adds to its base image", "MB"),
    Metric(
        "image_megabytes_training", "Size of the files that the training image adds to its base image", "MB"
    ),
    Metric("import_cpu_seconds", "Processor time to import the server in the serving image, median", "s"),
    Metric("import_cpu_seconds_training", "Processor time of the imports in the training image, median", "s"),
    Metric(
        "serverless_cost_ratio",
        "Serverless cost divided by an instance's, for a month of invocations, each a cold start",
        "",
        "lower",
        SOURCE_RATIO,
    ),
    Metric("serverless_break_even", "Warm invocations a month from which an instance costs no more"),
    Metric("invocations_a_month", "Invocations of this architecture in a month"),
    Metric("dollars_serverless", "Serverless cost of these invocations, each a cold start", "$"),
    Metric("dollars_provisioned", "Cost of one instance for a month", "$"),
)


@dataclass(frozen=True)
class Start:
    """Durations in seconds of a cold start and of the following warm invocations."""

    first: float
    warm: list[float]

    @property
    def ratio(self) -> float:
        return self.first / statistics.median(self.warm)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.seconds:
        first, warm = options.seconds
        found, starts = {"seconds_first": first, "seconds_warm": warm}, []
        settings = load({}).of(PowerBidding)
    else:
        given = steps.prepare(say)
        settings = load(given).of(PowerBidding)
        found = images(say)
        starts, figures = measured(given, settings, options.starts)
        found |= figures
    found |= costs(settings, found["seconds_first"], found["seconds_warm"])
    print()
    print_table(
        [(each.name, shown(found[each.name]), each.unit) for each in METRICS if each.name in found],
        ("figure", "value", "unit"),
        left=(0, 2),
    )
    missed = [each.name for each in METRICS if each.name in found and not each.reached(found[each.name])]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        seconds = [{"first": start.first, "warm": start.warm} for start in starts]
        report = {"metrics": found, "starts": seconds, "missed": missed}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(bool(missed))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.power_bidding.hosting", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--starts", type=int, default=10, help="number of container starts (10)")
    add(
        "--seconds",
        type=float,
        nargs=2,
        metavar=("FIRST", "WARM"),
        help="compute only costs, from the seconds of a cold and of a warm invocation",
    )
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.starts < 1:
        parser.error(f"--starts must be a whole number from 1, got {options.starts}")
    if options.seconds and not all(0 < each < float("inf") for each in options.seconds):
        parser.error(f"--seconds must be two numbers above 0, got {options.seconds}")
    return options


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def say(line: str) -> None:
    print(f"  {line}", flush=True)


def measured(
    given: dict[str, str], settings: PowerBidding, count: int
) -> tuple[list[Start], dict[str, float]]:
    """Deploy, train a model, and measure `count` cold starts. Return the starts and their figures."""
    replay = history(say)
    with (
        tempfile.TemporaryDirectory(prefix="groundplan-hosting-") as folder,
        LocalCloud(Path(folder)) as cloud,
    ):
        say("deploying")
        outputs = cloud.deploy(STACK, context=given)[STACK]
        os.environ |= cloud.env()
        endpoint = deployed_model(outputs, replay, Path(folder))
        body = request(replay, settings)
        say(f"asking {endpoint}")
        runtime = boto3.client(
            "sagemaker-runtime",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=ANSWER_SECONDS),
        )

        def ask() -> None:
            answer = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=body)
            answer["Body"].read()

        starts = []
        for number in range(count):
            start = started(cloud, ask)
            starts.append(start)
            warm = statistics.median(start.warm)
            say(f"start {number + 1}: first {start.first:.2f} s, warm {warm:.2f} s, ratio {start.ratio:.1f}")
    return starts, {
        "serverless_cold_start_ratio": statistics.median(start.ratio for start in starts),
        "seconds_first": statistics.median(start.first for start in starts),
        "seconds_first_longest": max(start.first for start in starts),
        "seconds_warm": statistics.median(each for start in starts for each in start.warm),
        "request_bytes": len(body),
    }


def deployed_model(outputs: dict[str, str], replay: Replay, folder: Path) -> str:
    """Train and deploy the first model. Return its endpoint's name."""
    desk = Desk(outputs, 1)
    before = later(replay.first, -1)
    with replaying(replay, before, 1, desk.assets(), folder) as feeds:
        desk.credentials(feeds.secret)
        desk.clock(before, 1)
        desk.import_history(replay)
        desk.first_model(replay, say)
    return json.loads(desk.endpoint())["endpoint"]


def started(cloud: LocalCloud, ask: Callable[[], None]) -> Start:
    """Wait until the idle container has stopped, then time the next invocations."""
    containers = cloud.home / "instances" / "endpoints"
    cloud.configure(serverless_idle=0.1)
    wait_until(
        lambda: not any(containers.glob("*")), GONE_SECONDS, "the container of the endpoint did not stop"
    )
    cloud.configure(serverless_idle=None)
    seconds = [timed(ask) for _ in range(1 + WARM)]
    return Start(seconds[0], seconds[1:])


def timed(ask: Callable[[], None]) -> float:
    begun = time.monotonic()
    ask()
    return time.monotonic() - begun


def request(replay: Replay, settings: PowerBidding) -> bytes:
    """Return a production request for the first hour of the replay, with 392 days of prices.

    A shorter history is repeated. Prices are known to the end of the market day.
    """
    with replay.path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    now = next(number for number, row in enumerate(rows) if row["hour_utc"] == replay.first)
    past = (rows[:now] * (HISTORY_HOURS // now + 1))[-HISTORY_HOURS:]

    def column(name: str, ahead: int) -> list[float]:
        return [float(row[name]) for row in past + rows[now : now + ahead]]

    history = {
        "start": later(replay.first, -HISTORY_HOURS),
        "price": column(f"price:{replay.location}", 24),
        "real_time": column(f"real_time:{replay.location}", 1),
        "load": column("load", 48),
        "temperature": column("temperature", 48),
        "price_forecast": [],
    }
    asked: dict[str, Any] = {
        "hour": later(replay.first, settings.lead_hours),
        "now": replay.first,
        "location": replay.location,
        "mode": settings.mode,
        "real_time_policy": settings.real_time_policy,
        "asset": settings.battery.model_dump(),
        "market": settings.market.model_dump(include={"floor", "cap", "least_mw", "most_segments"}),
        "time_zone": settings.time_zone,
        "history": history,
        "state_of_charge": settings.battery.energy / 2,
        "awards": {},
        "day_ahead": None,
    }
    return json.dumps(asked, allow_nan=False).encode()


def costs(settings: PowerBidding, first: float, warm: float) -> dict[str, float]:
    """Return a month's cost figures. A run starts every hour and invokes the endpoint once per asset.

    Whether SageMaker keeps an idle container for an hour, and whether it bills the start, is undocumented.
    Every invocation is assumed to be a billed cold start.
    """
    prices = Costs(
        list_price(REGION, "serverless", str(settings.serverless_memory_mb)),
        list_price(REGION, "hosting", settings.hosting_instance_type),
    )
    invocations = HOURS * len(settings.assets)
    serverless, provisioned = prices.serverless(invocations, first), prices.provisioned()
    for price, what in (
        (prices.second, f"a second of {settings.serverless_memory_mb} MB"),
        (prices.hour, f"an hour of {settings.hosting_instance_type}"),
    ):
        say(f"${price.dollars} for {what} ({price.region}, {price.as_of})")
    say(f"both cost the same if an endpoint computes {prices.busy_share():.0%} of the time")
    return {
        "serverless_cost_ratio": float(serverless / provisioned),
        "serverless_break_even": prices.break_even(warm),
        "invocations_a_month": invocations,
        "dollars_serverless": float(serverless),
        "dollars_provisioned": float(provisioned),
    }


if __name__ == "__main__":
    sys.exit(main())
