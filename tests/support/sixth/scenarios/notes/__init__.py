"""Use of a deployed `notes`: store a note and read it."""

from __future__ import annotations

import json
from pathlib import Path

from scenarios import Metric, Progress, Report, ScenarioResult, aws

METRICS = (Metric("kept", "notes that were read as they were written", "", "higher", 1),)


def run(stack: str, out: Path, progress: Progress) -> ScenarioResult:
    found = aws.outputs(stack)
    progress("a note is kept")
    answer = aws.client("lambda").invoke(
        FunctionName=found["FunctionName"], Payload=json.dumps({"text": "buy milk"})
    )
    key = json.loads(answer["Payload"].read())["key"]
    kept = aws.client("s3").get_object(Bucket=found["BucketName"], Key=key)["Body"].read()
    return ScenarioResult({"kept": float(kept == b"buy milk")}, METRICS, [], Report())
