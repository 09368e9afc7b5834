"""Run after the last job of a sweep: write table, chart and report, and recommend a fraction."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any, TypedDict

from aws_lambda_powertools.utilities.typing import LambdaContext

from data_centric.aws import sweep_desk
from data_centric.aws.mlflow_app import MlflowError
from data_centric.aws.sweep_desk import count, logger, metrics
from data_centric.core import comparison, sweep_files, tracking
from data_centric.core.comparison import Outcome, Run
from data_centric.core.comparison_chart import svg
from data_centric.core.sweep import Cell

Tracked = tuple[Run, list[dict[str, Any]]]
"""A run, and its rows of epochs."""


class CompareEvent(TypedDict):
    folder: str
    """Folder of the sweep in the bucket, from the plan"""
    outcomes: list[dict[str, Any]]
    """Fields of an `Outcome` for each job in the plan, which does not list the jobs of the search"""
    search: str
    """Name of the tuning job; empty without a search"""


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: CompareEvent, context: LambdaContext) -> dict[str, Any]:
    """Return the report. A repeated call writes the same files."""
    bucket, folder = sweep_desk.bucket(), event["folder"]
    logger.append_keys(folder=folder)
    content = bucket.get(f"{folder}/{sweep_files.PLAN}")
    if content is None:
        raise ValueError(f"{folder} has no {sweep_files.PLAN}")
    plan = json.loads(content)
    cells = [Cell(**each) for each in plan["cells"]]
    ended = [Outcome(**each) for each in event["outcomes"]]
    if event["search"]:
        for fraction, outcome in sweep_desk.tuning().jobs(event["search"]):
            cells.append(Cell(outcome.cell, plan["sweep"]["strategies"][-1], fraction))
            ended.append(outcome)
    outcomes, tracked = collected(folder, cells, ended, plan["labels"])
    runs = [run for run, _ in tracked]
    rows = comparison.table(cells, outcomes, runs)
    found = comparison.recommended(rows, plan["sweep"]["tolerance"])
    report = sweep_files.report(found, rows, outcomes, plan["labels"])
    flat = [row.flat() for row in rows]
    title = f"{plan['sweep']['experiment']}: {plan['sweep']['dataset']}, {len(plan['sweep']['seeds'])} seeds"
    for name, body, kind in (
        (sweep_files.RUNS, sweep_files.lines([asdict(run) for run in runs]), "text/csv"),
        (sweep_files.TABLE, sweep_files.lines(flat), "text/csv"),
        (sweep_files.TABLE_JSON, sweep_files.document(flat), "application/json"),
        (sweep_files.CHART, svg(title, rows), "image/svg+xml"),
        (sweep_files.REPORT, sweep_files.document(report), "application/json"),
    ):
        bucket.put(f"{folder}/{name}", body, kind)
    if measurement := sweep_files.measurement(plan["sweep"], runs):
        name = sweep_files.latest(plan["sweep"]["experiment"])
        bucket.put(name, sweep_files.document(measurement), "application/json")
    report["untracked"] = tracked_with_mlflow(plan, tracked)
    count("SweepJobsCompleted", report["completed"])
    count("SweepJobsFailed", len(report["failed"]))
    logger.info("the sweep is compared", extra={"recommendation": report["recommendation"]})
    return report | {"folder": bucket.url(folder)}


def tracked_with_mlflow(plan: dict[str, Any], tracked: list[Tracked]) -> str:
    """Log the runs with the MLflow app, if there is one. Return the reason of a failure, or an empty text.

    The results are already in the bucket, so the sweep does not fail if logging fails.
    """
    app = sweep_desk.tracking()
    if app is None:
        return ""
    try:
        logged = tracking.log(app, plan["sweep"]["experiment"], plan["sweep"], tracked, plan["began"])
    except MlflowError as error:
        logger.exception("could not log the runs with MLflow")
        count("SweepsUntracked", 1)
        return str(error)
    logger.info("runs are logged with MLflow", extra={"runs": logged})
    return ""


def collected(
    folder: str, cells: list[Cell], outcomes: list[Outcome], labels: str
) -> tuple[list[Outcome], list[Tracked]]:
    """Read the output of the jobs, and copy their epochs to the sweep's folder.

    A job with invalid output counts as failed.
    """
    bucket, by_id = sweep_desk.bucket(), {cell.id: cell for cell in cells}
    ended, tracked = list[Outcome](), list[Tracked]()
    for outcome in outcomes:
        if outcome.status == "Completed":
            try:
                files = bucket.job_files(f"training/{outcome.job}")
                for run in comparison.runs_of(by_id[outcome.cell], outcome, files.results, labels):
                    tracked.append((run, [row for row in files.rows if row["seed"] == run.seed]))
                name = f"{folder}/{sweep_files.epochs(outcome.cell)}"
                bucket.put(name, files.epochs, "application/vnd.apache.parquet")
            except ValueError as error:
                outcome = replace(outcome, status="Failed", reason=str(error))
        ended.append(outcome)
    return ended, tracked
