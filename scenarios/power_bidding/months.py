"""Capture by month: evaluation of the replay's first model on all days after its training data."""

from __future__ import annotations

import json
import time
from typing import Any

from scenarios import ScenarioError, aws
from scenarios.power_bidding.desk import BUSY, wait_until
from scenarios.power_bidding.history import Replay

SECONDS = 300
FOLDER = "by-month"


def judged(outputs: dict[str, str], replay: Replay) -> dict[str, Any]:
    """Evaluate the first model on the days from the end of its training data to the end of the history.

    Runs the pipeline's `Evaluate` job again with the whole history, without retraining. Raises
    `ScenarioError` if the job fails.
    """
    sagemaker, s3 = aws.client("sagemaker"), aws.client("s3")
    bucket = outputs["BucketName"]
    header, rows = replay.path.read_text().split("\n", 1)
    body = header.replace(f":{replay.location}", "") + "\n" + rows
    s3.put_object(Bucket=bucket, Key=f"training/{FOLDER}/history/{replay.location}.csv", Body=body.encode())
    step = _first_evaluation(sagemaker, outputs["PipelineName"])
    name = f"{step['ProcessingJobName'][:40].rstrip('-')}-{FOLDER}-{time.time():.0f}"
    inputs = [each for each in step["ProcessingInputs"] if each["InputName"] in ("history", "candidate")]
    for each in inputs:
        if each["InputName"] == "history":
            each["S3Input"]["S3Uri"] = f"s3://{bucket}/training/{FOLDER}/history"
    output = step["ProcessingOutputConfig"]
    output["Outputs"][0]["S3Output"]["S3Uri"] = f"s3://{bucket}/evaluation/{name}"
    same = ("RoleArn", "AppSpecification", "ProcessingResources", "StoppingCondition", "NetworkConfig")
    sagemaker.create_processing_job(
        ProcessingJobName=name,
        ProcessingInputs=inputs,
        ProcessingOutputConfig=output,
        **{field: step[field] for field in same if field in step},
    )

    def job() -> dict[str, Any]:
        return sagemaker.describe_processing_job(ProcessingJobName=name)

    wait_until(
        lambda: job()["ProcessingJobStatus"] not in ("InProgress", "Stopping"),
        SECONDS,
        f"{name} was still running after {SECONDS} s; {BUSY}",
        pause=0.5,
    )
    if (found := job())["ProcessingJobStatus"] != "Completed":
        raise ScenarioError(f"{name} ended {found['ProcessingJobStatus']}: {found.get('FailureReason')}")
    answer = s3.get_object(Bucket=bucket, Key=f"evaluation/{name}/evaluation.json")
    return json.loads(answer["Body"].read())


def _first_evaluation(sagemaker: Any, pipeline: str) -> dict[str, Any]:
    """Return the processing job of the pipeline's first execution."""
    pages = sagemaker.get_paginator("list_pipeline_executions").paginate(
        PipelineName=pipeline, SortBy="CreationTime", SortOrder="Ascending"
    )
    oldest = next(each for page in pages for each in page["PipelineExecutionSummaries"])
    steps = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=oldest["PipelineExecutionArn"])
    arn = next(
        step["Metadata"]["ProcessingJob"]["Arn"]
        for step in steps["PipelineExecutionSteps"]
        if step["StepName"] == "Evaluate"
    )
    return sagemaker.describe_processing_job(ProcessingJobName=arn.rpartition("/")[2])
