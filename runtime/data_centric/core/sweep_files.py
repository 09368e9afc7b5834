"""Keys and content of a sweep's files in the bucket.

datasets/DATASET/                     see `sweep_data`
training/JOB/output/                  model and output of a job, as SageMaker stores them
sweeps/EXPERIMENT/latest.json         measurements of the last sweep, for the next estimate
sweeps/EXPERIMENT/RUN/plan.json       the sweep, its jobs and the estimate; written before the first job
sweeps/EXPERIMENT/RUN/runs.csv        one line for each seed of each job
sweeps/EXPERIMENT/RUN/table.csv       one line for each job, with intervals; table.json has the same
sweeps/EXPERIMENT/RUN/chart.svg       accuracy against billed seconds
sweeps/EXPERIMENT/RUN/report.json     the recommendation, the failed jobs, the version of the labels
sweeps/EXPERIMENT/RUN/epochs/CELL.parquet   one row for each epoch of each seed of a job
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from data_centric.core.comparison import Outcome, Recommendation, Row, Run
from data_centric.core.sweep import FULL, Sweep

PLAN, REPORT, CHART = "plan.json", "report.json", "chart.svg"
RUNS, TABLE, TABLE_JSON = "runs.csv", "table.csv", "table.json"


def dataset(name: str) -> str:
    return f"datasets/{name}"


def folder(experiment: str, run: str) -> str:
    return f"sweeps/{experiment}/{run}"


def latest(experiment: str) -> str:
    return f"sweeps/{experiment}/latest.json"


def epochs(cell: str) -> str:
    return f"epochs/{cell}.parquet"


def document(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV. Unknown values are empty."""
    if not rows:
        return ""
    content = io.StringIO()
    writer = csv.DictWriter(content, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue()


def report(
    found: Recommendation, rows: Sequence[Row], outcomes: Iterable[Outcome], labels: str
) -> dict[str, Any]:
    """Return the report of a sweep."""
    failed = [row for row in rows if not row.runs]
    return {
        "recommendation": asdict(found),
        "labels": labels,
        "completed": len(rows) - len(failed),
        "failed": [
            {"cell": row.cell, "strategy": row.strategy, "fraction": row.fraction, "reason": row.reason}
            for row in failed
        ],
        "billed_seconds": sum(outcome.billed_seconds for outcome in outcomes),
    }


def measurement(sweep: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any] | None:
    """Return the measurements for the next estimate of an experiment; None if no run of `full` completed."""
    full = [run.seconds for run in runs if run.strategy == FULL]
    if not full:
        return None
    jobs = {run.job for run in runs}
    beside = sum(run.billed_seconds - run.seconds for run in runs) / len(jobs)
    return {
        "dataset": sweep["dataset"],
        "hyperparameters": sweep["hyperparameters"],
        "full_seconds": statistics.fmean(full),
        "start_seconds": max(0.0, beside),
    }


def measured(latest: bytes | None, sweep: Sweep) -> dict[str, float]:
    """Return the fields of `Rates` that the last sweep of the experiment measured.

    The result is empty if that sweep had another dataset or other hyperparameters.
    """
    found = json.loads(latest) if latest else {}
    if (found.get("dataset"), found.get("hyperparameters")) != (sweep.dataset, dict(sweep.hyperparameters)):
        return {}
    return {name: found[name] for name in ("full_seconds", "start_seconds")}
