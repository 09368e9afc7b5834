"""Operations on the deployed stack."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from scenarios import Progress, ScenarioError, aws
from scenarios.power_bidding.history import Replay, later

SETTLE_SECONDS = 120
"""Timeout of an execution, of a wait for offers, and of a query."""
BUSY = "the machine may be too busy: run the demonstration alone"
RETRAIN_SECONDS = 600
BEFORE = 6
"""Hours from the run that trains the first model to the replay. That run has no model for its offers."""


def wait_until(done: Callable[[], bool], seconds: float, otherwise: str, pause: float = 0.1) -> None:
    """Poll a condition every `pause` seconds. Raises `ScenarioError(otherwise)` after `seconds`."""
    begun = time.monotonic()
    while not done():
        if time.monotonic() - begun > seconds:
            raise ScenarioError(otherwise)
        time.sleep(pause)


class Desk:
    """The deployed stack, with the operations of its operator."""

    def __init__(self, outputs: dict[str, str], rate: int):
        self.outputs = outputs
        self.rate = rate
        """Market hours per real hour"""
        self._states, self._functions = aws.client("stepfunctions"), aws.client("lambda")
        self._dynamodb, self._s3 = aws.client("dynamodb"), aws.client("s3")
        self._sagemaker = aws.client("sagemaker")
        described = self._functions.get_function_configuration(FunctionName=outputs["MakeBidsFunctionName"])
        self._variables: dict[str, str] = described["Environment"]["Variables"]
        market = json.loads(self._variables["MARKET"])
        self.lead_hours: int = market["lead_hours"]
        self.notice_hours: float = self.lead_hours - market["lockout_minutes"] / 60
        """Hours from a run's start to the deadline of its real-time offer"""

    def assets(self) -> list[dict[str, Any]]:
        """Return the assets in the market's format."""
        names = ("location", "power", "energy", "charge_efficiency", "discharge_efficiency")
        return [
            {"name": name} | {field: each[field] for field in names}
            for name, each in json.loads(self._variables["ASSETS"]).items()
        ]

    def credentials(self, secret: dict[str, Any]) -> None:
        aws.client("secretsmanager").put_secret_value(
            SecretId=self.outputs["CredentialsName"], SecretString=json.dumps(secret)
        )

    def clock(self, hour: str, rate: float, after: float = 0.0) -> None:
        """Set the functions' clock to `after` hours after `hour`, at `rate` times real time."""
        began = datetime.now(UTC) - timedelta(hours=after) / rate
        value = {"rate": rate, "began": f"{began:%Y-%m-%dT%H:%M:%S.%fZ}", "hour": hour}
        aws.client("ssm").put_parameter(
            Name=self.outputs["ClockParameterName"], Value=json.dumps(value), Type="String", Overwrite=True
        )

    def import_history(self, replay: Replay) -> int:
        """Import the hours before the replay. Return their number."""
        header, *lines = replay.path.read_text().splitlines()
        before = [line for line in lines if line.partition(",")[0] < replay.first]
        key = "imports/history.csv"
        self._s3.put_object(
            Bucket=self.outputs["BucketName"], Key=key, Body="\n".join([header, *before]).encode()
        )
        return int(self._invoke("ImportHistoryFunctionName", {"key": key})["hours"])

    def first_model(self, replay: Replay, progress: Progress) -> float:
        """Train and deploy the first model; return the duration in seconds. Raises `ScenarioError`."""
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
            if at.startswith("Succeeded") and self.endpoint() == before:
                raise ScenarioError(f"the pipeline did not put the first model into service: {at}")
            progress(f"training the first model · {at}")
            time.sleep(1)
        self.ended(execution, SETTLE_SECONDS)
        return time.monotonic() - begun

    def endpoint(self) -> str:
        """Return the name of the endpoint in service, or `none`."""
        name = self.outputs["EndpointParameterName"]
        return aws.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]

    def start(self, hour: str, *, retrain: bool = False) -> str:
        """Start a run, and return its execution."""
        request = {"hour": hour, "rate": self.rate, "retrain": retrain}
        return self._states.start_execution(
            stateMachineArn=self.outputs["PrepareArn"], input=json.dumps(request)
        )["executionArn"]

    def bid_execution(self, hour: str) -> str:
        """Return the newest execution of `bid` for an hour. Raises `ScenarioError` if there is none."""
        pages = self._states.get_paginator("list_executions").paginate(stateMachineArn=self.outputs["BidArn"])
        for execution in (each["executionArn"] for page in pages for each in page["executions"]):
            given = self._states.describe_execution(executionArn=execution)["input"]
            if json.loads(given).get("hour") == hour:
                return execution
        raise ScenarioError(f"the state machine bid has no execution for {hour}")

    def ended(self, execution: str, seconds: float) -> dict[str, Any]:
        """Wait for an execution's end, and return its output.

        Raises `ScenarioError` if it fails or takes more than `seconds`.
        """
        begun = time.monotonic()
        while (found := self._states.describe_execution(executionArn=execution))["status"] == "RUNNING":
            if time.monotonic() - begun > seconds:
                raise ScenarioError(f"{execution} was still running after {seconds:.0f} s; {BUSY}")
            time.sleep(0.1)
        if found["status"] != "SUCCEEDED":
            raise ScenarioError(f"{execution} ended {found['status']}: {found.get('cause')}")
        return json.loads(found["output"])

    def offered(self, hour: str) -> bool:
        """Return whether all real-time offers of a run have a final status."""
        offer = f"{later(hour, self.lead_hours)}#RT"
        for asset in json.loads(self._variables["ASSETS"]):
            key = {"asset": {"S": asset}, "offer": {"S": offer}}
            row = self._dynamodb.get_item(TableName=self.outputs["BidsTable"], Key=key).get("Item")
            if not row or row.get("status", {}).get("S") not in ("sent", "no_offer", "stopped"):
                return False
        return True

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows of the offers' table."""
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self.outputs["BidsTable"])
        return [
            {name: next(iter(value.values())) for name, value in item.items()}
            for page in pages
            for item in page["Items"]
        ]

    def versions(self) -> list[dict[str, Any]]:
        """Return each hour with its status, and whether its price was corrected."""
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
        """Return the number of registered models."""
        group = self.outputs["ModelPackageGroupName"]
        return len(
            self._sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
        )

    def interpolated(self) -> int:
        """Return the number of hours of which a dataset version has the status `interpolated`."""
        asked = "SELECT count(DISTINCT hour_utc) AS hours FROM hours WHERE status = 'interpolated'"
        return int(self._query("interpolated", asked)[1][0] or 0)

    def flagged(self, column: str) -> dict[str, str]:
        """Return the flags of a column by hour. A flag tells how a missing value was substituted."""
        rows = self._query("flags", "SELECT hour_utc, flags FROM hours WHERE flags <> '{}'")[1:]
        found = {hour: json.loads(flags) for hour, flags in rows if hour and flags}
        return {hour: flags[column] for hour, flags in found.items() if column in flags}

    def ask_athena(self, replay: Replay) -> dict[str, list[list[str | None]]]:
        """Query offers and prices of the replay's first day, and the number of hours by the offers' source.

        Return the rows.
        """
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
        """Return the rows of a query. The first row has the column names."""
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
            f"the query {name!r} was still running after {SETTLE_SECONDS} s; {BUSY}",
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

    def trained(self, progress: Progress) -> None:
        """Wait for the end of the newest retraining. Raises `ScenarioError` if it failed."""

        def status() -> str:
            return self._pipelines()[0]["PipelineExecutionStatus"]

        progress("waiting for the second model")
        wait_until(lambda: status() != "Executing", RETRAIN_SECONDS, "the retraining did not end")
        if status() != "Succeeded":
            raise ScenarioError(f"the pipeline failed: {self._pipeline()}")

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
