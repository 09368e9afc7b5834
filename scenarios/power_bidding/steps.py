"""The scenario, step by step: a week of the market, replayed against the deployed stack."""

from __future__ import annotations

import json
import math
import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios import Progress, Report, ScenarioError, ScenarioResult, Story, aws, keep
from scenarios.power_bidding import figures, months, worth
from scenarios.power_bidding.desk import BUSY, SETTLE_SECONDS, Desk, wait_until
from scenarios.power_bidding.history import Replay, history, later
from scenarios.power_bidding.metrics import METRICS
from scenarios.power_bidding.replay import FeedServer, replaying
from scenarios.power_bidding.visits import visits

REHEARSED = 2
"""Number of rehearsal runs before the replayed week."""
AT_ONCE = 8
"""Number of runs that are waited for in parallel."""


@dataclass(frozen=True)
class Plan:
    """A replay: number of hours, rate, and the hours of its faults."""

    hours: int
    rate: int
    """Maximum replay rate: market hours per real hour"""
    room: int
    """Maximum duration of an offer, as a multiple of its duration in the rehearsal"""
    load_down: int
    weather_late: int
    retrained: int
    corrected: int
    """The hour in which an earlier price changes"""


WEEK = Plan(hours=168, rate=2100, room=6, load_down=30, weather_late=50, retrained=84, corrected=110)
"""Takes 4.8 minutes on an idle machine: 1.7 seconds per market hour. An offer is due 6.4 seconds after its
run begins."""
TROUBLE = 4
"""Number of hours for which a feed fails."""
CORRECTED_BEFORE = 6
"""Number of hours from a price to its correction."""


def prepare(progress: Progress) -> dict[str, str]:
    """Fetch the history for the replay. Return the settings, with a battery at the history's location."""
    replay = history(progress)
    return {
        "power_bidding.assets": f"battery-1@{replay.location}",
        "power_bidding.time_zone": replay.zone,
        "power_bidding.lead_hours": "5",
        "power_bidding.late_minutes": "60",
    }


def run(stack: str, out: Path, progress: Progress, plan: Plan = WEEK) -> ScenarioResult:
    """Replay a plan's hours with the deployed stack. Files are written to `out`.

    Raises `ScenarioError` if a check fails.
    """
    outputs = aws.outputs(stack)
    replay = history(progress)
    desk = Desk(outputs, plan.rate)
    with replaying(replay, later(replay.first, -1), plan.rate, desk.assets(), out) as feeds:
        desk.credentials(feeds.secret)
        desk.clock(later(replay.first, -1), 1)
        progress("importing the history before the week")
        imported = desk.import_history(replay)
        metrics = keep(out, {"seconds_retraining": desk.first_model(replay, progress)})
        desk.rate = sustained_rate(rehearsed(desk, replay, progress), desk.notice_hours, plan)
        feeds.clock(rate=desk.rate)
        trouble(feeds, replay, plan)
        durations, executions = live(desk, feeds, replay, plan, progress)
        results = feeds.results()
        desk.trained(progress)
    metrics |= counted(desk, replay, durations, plan, results)
    metrics = keep(out, metrics | worth.measured(results, desk.assets()[0]))
    (out / "results.json").write_text(json.dumps(results, indent=1))
    asked = desk.ask_athena(replay)
    (out / "athena.json").write_text(json.dumps(asked, indent=1))
    progress("evaluating the first model on the months after its training data")
    evaluation = months.judged(outputs, replay)
    captures = {"capture": evaluation["capture"]["candidate"], "capture_days": evaluation["days"]}
    metrics = keep(out, metrics | captures)
    retrained = later(replay.first, plan.retrained)
    machines = {"prepare": executions[plan.retrained], "bid": desk.bid_execution(retrained)}
    drawn = [
        figures.curve(out / "curve.svg", results),
        figures.week(out / "week.svg", results),
        figures.months(out / "months.svg", evaluation),
        figures.runs(out / "machines.svg", {name: visits(arn) for name, arn in machines.items()}),
    ]
    report = Report(
        facts={
            "Data": replay.title,
            "Source": replay.source,
            "Licence": replay.licence,
            "Stand-ins": "; ".join(replay.stand_ins) or "none",
            "Before the week": f"{imported} hours",
            "Note": "A price-taker's backtest on past prices, not advice.",
        },
        path=["prepare: four feeds, Consolidate, Tell", "bid: CheckModel, Retrain, MakeBids"],
        figures=drawn,
        stories=told(desk, replay, plan, metrics),
    )
    artifacts = [out / "results.json", out / "athena.json", *(figure.path for figure in drawn)]
    return ScenarioResult(metrics, METRICS, artifacts, report)


def rehearsed(desk: Desk, replay: Replay, progress: Progress) -> float:
    """Rehearse the hours before the week with a stopped clock. Return the seconds that the last run took.

    The first run includes cold starts.
    """
    progress("rehearsing offers before the clock starts")
    seconds = 0.0
    for number in range(-REHEARSED, 0):
        hour = later(replay.first, number)
        seconds = follow(desk, desk.start(hour), hour)
    return seconds


def sustained_rate(seconds: float, notice_hours: float, plan: Plan) -> int:
    """Return the rate, up to `plan.rate`, at which an offer has `plan.room` times its rehearsed duration.

    :param seconds: duration of the rehearsed offer
    :param notice_hours: market hours from a run's start to its offer's deadline
    """
    return max(1, min(plan.rate, int(notice_hours * 3600 / (plan.room * seconds))))


def trouble(feeds: FeedServer, replay: Replay, plan: Plan) -> None:
    """Add the plan's faults of feeds."""

    def at(number: int) -> str:
        return later(replay.first, number)

    for feed, kind, first in (("load", "down", plan.load_down), ("weather", "late", plan.weather_late)):
        feeds.fault(feed, kind, **{"from": at(first), "to": at(first + TROUBLE)})
    corrected = at(plan.corrected - CORRECTED_BEFORE)
    price = {"series": f"price:{replay.location}", "hour": corrected, "value": 33.33}
    feeds.fault("market_prices", "corrected", **{"from": at(plan.corrected)}, **price)


def told(desk: Desk, replay: Replay, plan: Plan, metrics: dict[str, float]) -> list[Story]:
    """Describe the effects of the faults. Raises `ScenarioError` if a fault had no effect."""
    flagged = {column: desk.flagged(column) for column in ("load", "temperature")}
    for column, hours in flagged.items():
        if not hours:
            raise ScenarioError(f"no hour has a flag for {column}, although the fault withheld its values")
    corrected = later(replay.first, plan.corrected - CORRECTED_BEFORE)
    if not metrics["corrected_hours"]:
        raise ScenarioError(f"the correction of the price of {corrected} created no new version")
    in_time = f"{metrics['hours_without_bid']:.0f} hours were without an offer."
    return [
        Story(
            "A feed fails",
            f"Requests for the load forecast got status 503 for {TROUBLE} hours.",
            f"{len(flagged['load'])} hours have a substitute load, with the flag: "
            f"{', '.join(sorted(set(flagged['load'].values())))}. {in_time}",
        ),
        Story(
            "A feed is late",
            f"The weather of {TROUBLE} hours was not published when it was requested.",
            f"After a wait, {len(flagged['temperature'])} hours got a substitute temperature, with the"
            f" flag: {', '.join(sorted(set(flagged['temperature'].values())))}.",
        ),
        Story(
            "A price is corrected",
            f"The day-ahead price of {corrected} changed {CORRECTED_BEFORE} hours later.",
            f"{metrics['corrected_hours']:.0f} hour has a further version;"
            f" {metrics['double_bids']:.0f} offers were sent a second time.",
        ),
        Story(
            "A model is trained while offers are made",
            f"The run of hour {plan.retrained} was started with a request to train a model.",
            f"{metrics['retrainings']:.0f} models were put into service,"
            f" {metrics['fallback_hours']:.0f} hours used a fallback. {in_time}",
        ),
    ]


def live(
    desk: Desk, feeds: FeedServer, replay: Replay, plan: Plan, progress: Progress
) -> tuple[list[float], list[str]]:
    """Start a run two minutes into every hour of the week, as the schedule does.

    Returns the duration of each run in seconds, and the executions of `prepare`.
    """
    executions: list[str] = []
    started = time.monotonic()
    feeds.clock(paused=False)
    desk.clock(later(replay.first, -1), desk.rate)
    seconds = 3600 / desk.rate
    with ThreadPoolExecutor(AT_ONCE) as pool:
        followed: list[Future[float]] = []
        for number in range(plan.hours):
            due = started + (number + 1 + 2 / 60) * seconds
            time.sleep(max(0.0, due - time.monotonic()))
            hour = later(replay.first, number)
            executions.append(desk.start(hour, retrain=number == plan.retrained))
            progress(f"the week · {hour}")
            followed.append(pool.submit(follow, desk, executions[-1], hour))
        durations = [each.result() for each in followed]
    time.sleep(3 * seconds)
    feeds.clock(paused=True)
    return durations, executions


def follow(desk: Desk, execution: str, hour: str) -> float:
    """Wait for the offers of a run. Return the seconds that this took."""
    begun = time.monotonic()
    desk.ended(execution, SETTLE_SECONDS)
    problem = f"the run of {hour} made no offer within {SETTLE_SECONDS} s; {BUSY}"
    wait_until(lambda: desk.offered(hour), SETTLE_SECONDS, problem)
    return time.monotonic() - begun


def counted(
    desk: Desk, replay: Replay, durations: list[float], plan: Plan, results: dict[str, Any]
) -> dict[str, float]:
    """Return the counts of hours and offers."""
    due = {later(replay.first, number + desk.lead_hours) for number in range(plan.hours)}
    offered = {offer["hour"] for offer in results["offers"] if offer["market"] == "RT"}
    every = desk.rows()
    rows = [row for row in every if row["offer"] in {f"{hour}#RT" for hour in due}]
    day_ahead = [row["status"] for row in every if row["offer"].endswith("#DA")]
    seconds = sorted(durations)
    versions = desk.versions()
    return {
        "replayed_hours": plan.hours,
        "replay_rate": desk.rate,
        "hours_without_bid": len(due - offered),
        "late_bids": results["late"],
        "double_bids": results["double"],
        "fallback_hours": sum(row.get("source") == "fallback" for row in rows),
        "no_offer_hours": sum(row.get("status") == "no_offer" for row in rows),
        "day_ahead_offers": day_ahead.count("sent"),
        "no_offer_day_ahead_hours": day_ahead.count("no_offer"),
        "interpolated_hours": desk.interpolated(),
        "corrected_hours": sum(row["corrected"] for row in versions),
        "seconds_to_offer": statistics.median(seconds),
        "seconds_to_offer_p95": seconds[math.ceil(0.95 * len(seconds)) - 1],
        "retrainings": desk.retrainings(),
    }
