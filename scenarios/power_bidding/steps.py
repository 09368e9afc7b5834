"""The scenario, step by step: a week of the market, replayed against the deployed stack."""

from __future__ import annotations

import json
import math
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scenarios import Progress, Report, ScenarioError, ScenarioResult, Story, aws
from scenarios.power_bidding import figures, worth
from scenarios.power_bidding.history import Replay, history, later
from scenarios.power_bidding.metrics import METRICS
from scenarios.power_bidding.replay import FeedServer, replaying

SETTLE_SECONDS = 120
"""How long the last runs may take after the last hour."""
RETRAIN_SECONDS = 600
REHEARSED = 2
"""Runs before the week."""
BEFORE = 6
"""Hours from the run that trains the first model, and has none to offer with, to the week."""
AT_ONCE = 8
"""Runs that are followed at the same time."""


@dataclass(frozen=True)
class Plan:
    """A replay: its hours and its pace, and in which hour what happens."""

    hours: int
    rate: int
    """Hours of the market in one"""
    load_down: int
    weather_late: int
    retrained: int
    corrected: int
    """The hour in which an earlier price changes"""


WEEK = Plan(hours=168, rate=2100, load_down=30, weather_late=50, retrained=84, corrected=110)
"""4.8 minutes: 1.7 seconds for an hour, with offers due three hours and three quarters after a run begins."""
CORRECTED_BEFORE = 6
"""Hours from the price that is corrected to its correction."""


@dataclass
class Week:
    """What came of the replayed hours, by their number."""

    runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)


def prepare(progress: Progress) -> dict[str, str]:
    """Fetch the history that is replayed; return the settings that name its location."""
    replay = history(progress)
    return {
        "power_bidding.assets": f"battery-1@{replay.location}",
        "power_bidding.time_zone": replay.zone,
        "power_bidding.lead_hours": "5",
        "power_bidding.late_minutes": "60",
    }


def run(stack: str, out: Path, progress: Progress, plan: Plan = WEEK) -> ScenarioResult:
    """Replay a plan's hours against the deployed stack; what it makes goes below `out`.

    Raises `ScenarioError` when the architecture does not do what it is for.
    """
    outputs = aws.outputs(stack)
    replay = history(progress)
    desk = Desk(outputs, plan.rate)
    with replaying(replay, later(replay.first, -1), plan.rate, desk.assets(), out) as feeds:
        desk.credentials(feeds.secret)
        desk.clock(later(replay.first, -1), 1)
        progress("importing the history before the week")
        imported = desk.import_history(replay)
        seconds_retraining = desk.first_model(replay, progress)
        progress("a first run, before the clock starts")
        for number in range(-REHEARSED, 0):  # functions start, connections open
            hour = later(replay.first, number)
            desk.ended(desk.start(hour), SETTLE_SECONDS)
            wait_until(lambda hour=hour: desk.offered(hour), SETTLE_SECONDS, f"no offer came of {hour}")
        stories = trouble(feeds, replay, plan)
        week = live(desk, feeds, replay, plan, progress)
        results = feeds.results()
    metrics = counted(desk, replay, week, plan, results) | {"seconds_retraining": seconds_retraining}
    metrics |= worth.measured(results)
    (out / "results.json").write_text(json.dumps(results, indent=1))
    asked = desk.ask_athena(replay)
    (out / "athena.json").write_text(json.dumps(asked, indent=1))
    drawn = [
        figures.curve(out / "curve.svg", results),
        figures.week(out / "week.svg", results),
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
        stories=stories,
    )
    artifacts = [out / "results.json", out / "athena.json", *(figure.path for figure in drawn)]
    return ScenarioResult(metrics, METRICS, artifacts, report)


def trouble(feeds: FeedServer, replay: Replay, plan: Plan) -> list[Story]:
    """Let feeds go wrong in the week to come; return what is to be told of it."""

    def at(number: int) -> str:
        return later(replay.first, number)

    feeds.fault("load", "down", **{"from": at(plan.load_down), "to": at(plan.load_down + 4)})
    feeds.fault("weather", "late", **{"from": at(plan.weather_late), "to": at(plan.weather_late + 4)})
    price = {
        "series": f"price:{replay.location}",
        "hour": at(plan.corrected - CORRECTED_BEFORE),
        "value": 33.33,
    }
    feeds.fault("market_prices", "corrected", **{"from": at(plan.corrected)}, **price)
    return [
        Story(
            "A feed fails",
            "The load forecast answered 503 for four hours.",
            "Its values came from the forecast of an earlier hour, flagged; the offers left in time.",
        ),
        Story(
            "A feed is late",
            "The weather of four hours was not published when it was asked for.",
            "It was waited for, then taken from an earlier forecast, flagged.",
        ),
        Story(
            "A price is corrected",
            "The day-ahead price of an hour changed six hours after it.",
            "The hour has a second version; offers that had left stayed as they were.",
        ),
        Story(
            "A model is trained while offers are made",
            "In the middle of the week a run was told to train anew.",
            "Its pipeline ran beside the hourly runs, which went on with the model in service.",
        ),
    ]


def live(desk: Desk, feeds: FeedServer, replay: Replay, plan: Plan, progress: Progress) -> Week:
    """Start a run two minutes into every hour of the week, as the schedule does, and follow all."""
    week = Week()
    lock = threading.Lock()
    started = time.monotonic()
    feeds.clock(paused=False)
    desk.clock(later(replay.first, -1), plan.rate)
    seconds = 3600 / plan.rate
    with ThreadPoolExecutor(AT_ONCE) as pool:
        followed: list[Future[None]] = []
        for number in range(plan.hours):
            due = started + (number + 1 + 2 / 60) * seconds
            time.sleep(max(0.0, due - time.monotonic()))
            hour = later(replay.first, number)
            execution = desk.start(hour, retrain=number == plan.retrained)
            progress(f"the week · {hour}")
            followed.append(pool.submit(follow, desk, execution, number, hour, week, lock))
        for each in followed:
            each.result(timeout=SETTLE_SECONDS)
    time.sleep(3 * seconds)
    feeds.clock(paused=True)
    return week


def follow(desk: Desk, execution: str, number: int, hour: str, week: Week, lock: threading.Lock) -> None:
    """Wait for the offers of a run."""
    begun = time.monotonic()
    run = desk.ended(execution, SETTLE_SECONDS)
    wait_until(lambda: desk.offered(hour), SETTLE_SECONDS, f"no offer came of {hour}")
    with lock:
        week.runs[number] = run
        week.seconds[number] = time.monotonic() - begun


def wait_until(done: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait until it is done. Raises `ScenarioError` after so many seconds."""
    begun = time.monotonic()
    while not done():
        if time.monotonic() - begun > seconds:
            raise ScenarioError(otherwise)
        time.sleep(0.1)


def counted(desk: Desk, replay: Replay, week: Week, plan: Plan, results: dict[str, Any]) -> dict[str, float]:
    """Return the counts of hours and offers."""
    due = {later(replay.first, number + desk.lead_hours) for number in range(plan.hours)}
    offered = {offer["hour"] for offer in results["offers"] if offer["market"] == "RT"}
    rows = [row for row in desk.rows() if row["offer"] in {f"{hour}#RT" for hour in due}]
    seconds = sorted(week.seconds.values())
    versions = desk.versions()
    return {
        "replayed_hours": plan.hours,
        "replay_rate": plan.rate,
        "hours_without_bid": len(due - offered),
        "late_bids": results["late"],
        "double_bids": results["double"],
        "fallback_hours": sum(row.get("source") == "fallback" for row in rows),
        "no_offer_hours": sum(row.get("status") == "no_offer" for row in rows),
        "interpolated_hours": desk.interpolated(),
        "corrected_hours": sum(row["corrected"] for row in versions),
        "seconds_to_offer": statistics.median(seconds),
        "seconds_to_offer_p95": seconds[math.ceil(0.95 * len(seconds)) - 1],
        "retrainings": desk.retrainings(),
    }


class Desk:
    """The deployed stack, as its operator uses it."""

    def __init__(self, outputs: dict[str, str], rate: int):
        self.outputs, self.rate = outputs, rate
        self._states, self._functions = aws.client("stepfunctions"), aws.client("lambda")
        self._dynamodb, self._s3 = aws.client("dynamodb"), aws.client("s3")
        self._sagemaker = aws.client("sagemaker")
        described = self._functions.get_function_configuration(FunctionName=outputs["MakeBidsFunctionName"])
        self._variables: dict[str, str] = described["Environment"]["Variables"]
        self.lead_hours: int = json.loads(self._variables["MARKET"])["lead_hours"]

    def assets(self) -> list[dict[str, Any]]:
        """Return the assets as the market has to know them."""
        names = ("location", "power", "energy", "charge_efficiency", "discharge_efficiency")
        return [
            {"name": name} | {field: each[field] for field in names}
            for name, each in json.loads(self._variables["ASSETS"]).items()
        ]

    def credentials(self, secret: dict[str, Any]) -> None:
        aws.client("secretsmanager").put_secret_value(
            SecretId=self.outputs["CredentialsName"], SecretString=json.dumps(secret)
        )

    def clock(self, hour: str, rate: float) -> None:
        """Tell the functions that it is `hour` now, on a clock that runs `rate` times as fast."""
        value = {"rate": rate, "began": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}", "hour": hour}
        aws.client("ssm").put_parameter(
            Name=self.outputs["ClockParameterName"], Value=json.dumps(value), Type="String", Overwrite=True
        )

    def import_history(self, replay: Replay) -> int:
        """Import the hours before the replay; return how many."""
        header, *lines = replay.path.read_text().splitlines()
        before = [line for line in lines if line.partition(",")[0] < replay.first]
        key = "imports/history.csv"
        self._s3.put_object(
            Bucket=self.outputs["BucketName"], Key=key, Body="\n".join([header, *before]).encode()
        )
        return int(self._invoke("ImportHistoryFunctionName", {"key": key})["hours"])

    def first_model(self, replay: Replay, progress: Progress) -> float:
        """Have the first model trained and put into service; return the seconds that it took."""
        progress("training the first model")
        begun, before = time.monotonic(), self.endpoint()
        known = len(self._pipelines())
        request = {"hour": later(replay.first, -BEFORE), "version": 0, "rate": self.rate, "retrain": True}
        execution = self._states.start_execution(
            stateMachineArn=self.outputs["BidArn"], input=json.dumps(request)
        )["executionArn"]
        while self.endpoint() == before:
            if time.monotonic() - begun > RETRAIN_SECONDS:
                raise ScenarioError(f"no model was in service after {RETRAIN_SECONDS} s")
            at = self._pipeline() if len(self._pipelines()) > known else "starting"
            if at.startswith("Failed"):
                raise ScenarioError(f"the pipeline failed: {at}")
            progress(f"training the first model · {at}")
            time.sleep(1)
        self.ended(execution, SETTLE_SECONDS)
        return time.monotonic() - begun

    def endpoint(self) -> str:
        """Return the endpoint in service, or none."""
        name = self.outputs["EndpointParameterName"]
        return aws.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]

    def start(self, hour: str, *, retrain: bool = False) -> str:
        """Start a run; return its execution."""
        request = {"hour": hour, "rate": self.rate, "retrain": retrain}
        return self._states.start_execution(
            stateMachineArn=self.outputs["PrepareArn"], input=json.dumps(request)
        )["executionArn"]

    def ended(self, execution: str, seconds: float) -> dict[str, Any]:
        """Wait for an execution's end; return its output. Raises `ScenarioError` when it failed."""
        begun = time.monotonic()
        while (found := self._states.describe_execution(executionArn=execution))["status"] == "RUNNING":
            if time.monotonic() - begun > seconds:
                raise ScenarioError(f"{execution} still runs after {seconds:.0f} s")
            time.sleep(0.1)
        if found["status"] != "SUCCEEDED":
            raise ScenarioError(f"{execution} ended {found['status']}: {found.get('cause')}")
        return json.loads(found["output"])

    def offered(self, hour: str) -> bool:
        """Whether the real-time offers of a run's trading hour have left, or were given up."""
        offer = f"{later(hour, self.lead_hours)}#RT"
        for asset in json.loads(self._variables["ASSETS"]):
            key = {"asset": {"S": asset}, "offer": {"S": offer}}
            row = self._dynamodb.get_item(TableName=self.outputs["BidsTable"], Key=key).get("Item")
            if not row or row.get("status", {}).get("S") not in ("sent", "no_offer", "stopped"):
                return False
        return True

    def rows(self) -> list[dict[str, Any]]:
        """Return every row of the offers."""
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self.outputs["BidsTable"])
        return [
            {name: next(iter(value.values())) for name, value in item.items()}
            for page in pages
            for item in page["Items"]
        ]

    def versions(self) -> list[dict[str, Any]]:
        """Return status and corrections of every hour."""
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self.outputs["HoursTable"])
        return [
            {
                "hour": item["hour"]["S"],
                "status": item["status"]["S"],
                "corrected": any(each["S"].startswith("price:") for each in item["changes"]["L"]),
            }
            for page in pages
            for item in page["Items"]
        ]

    def retrainings(self) -> int:
        """Return how many models were registered."""
        group = self.outputs["ModelPackageGroupName"]
        return len(
            self._sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
        )

    def interpolated(self) -> int:
        """Return the hours of which a version had a value that was not the source's own."""
        asked = "SELECT count(DISTINCT hour_utc) AS hours FROM hours WHERE status = 'interpolated'"
        return int(self._query("interpolated", asked)[1][0] or 0)

    def ask_athena(self, replay: Replay) -> dict[str, list[list[str | None]]]:
        """Run two of the named queries for a day of the week; return their rows."""
        day = replay.first[:10]
        found = {}
        for name, query in {
            "offers and prices": "SELECT * FROM bid_results WHERE date = '{day}'"
            " ORDER BY asset, market, hour",
            "sources": "SELECT market, source, count(DISTINCT hour_utc) AS hours FROM bids"
            " WHERE date >= '{day}' GROUP BY market, source ORDER BY market, source",
        }.items():
            found[name] = self._query(name, query.format(day=day))
        return found

    def _query(self, name: str, text: str) -> list[list[str | None]]:
        """Return the rows of a query, the names of the columns first."""
        athena = aws.client("athena")
        started = athena.start_query_execution(
            QueryString=text,
            QueryExecutionContext={"Database": self.outputs["DatabaseName"]},
            WorkGroup=self.outputs["WorkGroupName"],
        )["QueryExecutionId"]

        def status() -> dict[str, str]:
            return athena.get_query_execution(QueryExecutionId=started)["QueryExecution"]["Status"]

        wait_until(
            lambda: status()["State"] not in ("QUEUED", "RUNNING"),
            SETTLE_SECONDS,
            f"the query {name!r} still runs after {SETTLE_SECONDS} s",
        )
        if status()["State"] != "SUCCEEDED":
            raise ScenarioError(f"the query {name!r} failed: {status().get('StateChangeReason')}")
        rows = athena.get_query_results(QueryExecutionId=started)["ResultSet"]["Rows"]
        return [[cell.get("VarCharValue") for cell in row["Data"]] for row in rows]

    def _invoke(self, output: str, event: dict[str, Any]) -> dict[str, Any]:
        answer = self._functions.invoke(FunctionName=self.outputs[output], Payload=json.dumps(event))
        body = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise ScenarioError(f"{output} failed: {body.get('errorMessage')}")
        return body

    def _pipelines(self) -> list[dict[str, Any]]:
        """Return the executions of the pipeline, the newest first."""
        name = self.outputs["PipelineName"]
        return self._sagemaker.list_pipeline_executions(PipelineName=name)["PipelineExecutionSummaries"]

    def _pipeline(self) -> str:
        """Return the status of the newest execution of the pipeline, and its steps."""
        runs = self._pipelines()
        steps = self._sagemaker.list_pipeline_execution_steps(
            PipelineExecutionArn=runs[0]["PipelineExecutionArn"]
        )["PipelineExecutionSteps"]
        told = [
            f"{step['StepName']} {step['StepStatus']} {step.get('FailureReason', '')}".strip()
            for step in reversed(steps)
        ]
        return f"{runs[0]['PipelineExecutionStatus']}: {', '.join(told)}"
