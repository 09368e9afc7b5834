"""Logging of a sweep to an MLflow app, with one MLflow run for each seed of each job."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from data_centric.core.comparison import Run

METRICS = (
    *("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
    *("training_seconds", "selection_seconds"),
)
"""Columns of an epoch that are logged, with the epoch as their step."""
KEY = "groundplan.run"
"""Tag by which a repeated call finds the runs of the first call, because MLflow chooses the run ids."""
MOST_METRICS = 1000
"""Maximum number of metrics in a request: MLflow's limit."""

Json = Mapping[str, Any]


class Tracking(Protocol):
    """MLflow's REST API."""

    def post(self, name: str, body: Json) -> dict[str, Any]: ...

    def find_experiment(self, name: str) -> str | None: ...


def log(
    tracking: Tracking, experiment: str, sweep: Json, runs: Iterable[tuple[Run, Sequence[Json]]], began: float
) -> int:
    """Log runs with their epochs; return the number of logged runs. A repeated call logs the missing runs.

    :param experiment: name that groups the runs of several sweeps
    :param sweep: fields of the sweep
    :param runs: each run, with its rows of epochs
    :param began: start of the sweep, in seconds since 1970-01-01 UTC. The logged time of an epoch is `began`
        plus the run's seconds up to the end of the epoch, so that a repeated call logs the same values
    """
    found = tracking.find_experiment(experiment)
    if found is None:
        found = tracking.post("experiments/create", {"name": experiment})["experiment_id"]
    count = 0
    for run, rows in runs:
        count += _log(tracking, found, sweep, run, rows, began)
    return count


def _log(
    tracking: Tracking, experiment: str, sweep: Json, run: Run, rows: Sequence[Json], began: float
) -> bool:
    key = f"{run.job}/{run.seed}"
    query = {"experiment_ids": [experiment], "filter": f"tags.`{KEY}` = '{key}'", "max_results": 1}
    known = [each["info"] for each in tracking.post("runs/search", query).get("runs", [])]
    if known and known[0]["status"] == "FINISHED":
        return False
    start = _milliseconds(began)
    if known:
        number = known[0]["run_id"]
    else:
        tags = {KEY: key, "mlflow.runName": f"{run.strategy}-{run.fraction:g}-{run.seed}", "job": run.job}
        request = {"experiment_id": experiment, "start_time": start, "tags": _pairs(tags)}
        number = tracking.post("runs/create", request)["run"]["info"]["run_id"]
    parameters = {
        "strategy": run.strategy,
        "fraction": f"{run.fraction:g}",
        "seed": str(run.seed),
        "dataset": sweep["dataset"],
        "labels": run.labels or "none",
        "data": run.data,
        **sweep["hyperparameters"],
    }
    tracking.post("runs/log-batch", {"run_id": number, "params": _pairs(parameters)})
    metrics = [*_metrics(rows, began), *_finals(run, began)]
    for first in range(0, len(metrics), MOST_METRICS):
        batch = {"run_id": number, "metrics": metrics[first : first + MOST_METRICS]}
        tracking.post("runs/log-batch", batch)
    end = _milliseconds(began + run.seconds)
    tracking.post("runs/update", {"run_id": number, "status": "FINISHED", "end_time": end})
    return True


def _metrics(rows: Iterable[Json], began: float) -> Iterator[Json]:
    seconds = 0.0
    for row in rows:
        seconds += row["training_seconds"] + row["selection_seconds"]
        for name in METRICS:
            yield _metric(name, row[name], began + seconds, row["epoch"])


def _finals(run: Run, began: float) -> Iterator[Json]:
    """Yield the metrics that have one value for a run; their step is the last epoch."""
    for name, value in (
        ("test_accuracy", run.accuracy),
        ("best_validation_accuracy", run.best_validation_accuracy),
        ("seconds", run.seconds),
        ("billed_seconds", run.billed_seconds),
    ):
        yield _metric(name, value, began + run.seconds, run.epochs)


def _metric(name: str, value: float, moment: float, step: int) -> Json:
    return {"key": name, "value": _number(value), "timestamp": _milliseconds(moment), "step": step}


def _number(value: float) -> float | str:
    """Return a number in the JSON format of Protocol Buffers: NaN and infinity are texts."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]
