"""Logging of runs with MLflow: each run is logged once, also when the comparison is repeated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from data_centric.core.comparison import Run
from data_centric.core.tracking import KEY, MOST_METRICS, log

SWEEP = {"dataset": "digits", "hyperparameters": {"epochs": "2"}}
BEGAN = 1_700_000_000.0


class Mlflow:
    """MLflow's REST API in memory. `fail_at` is the number of the request that fails."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.requests = 0
        self.fail_at = 0

    def find_experiment(self, name: str) -> str | None:
        return self.experiments.get(name)

    def post(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.requests += 1
        if self.requests == self.fail_at:
            raise TimeoutError
        match name:
            case "experiments/create":
                number = self.experiments[body["name"]] = str(len(self.experiments))
                return {"experiment_id": number}
            case "runs/search":
                found = [run for run in self.runs.values() if f"'{run['tags'][KEY]}'" in body["filter"]]
                return {"runs": [{"info": run["info"]} for run in found]}
            case "runs/create":
                info = {"run_id": f"r{len(self.runs)}", "status": "RUNNING"}
                tags = {each["key"]: each["value"] for each in body["tags"]}
                self.runs[info["run_id"]] = {"info": info, "tags": tags, "params": {}, "metrics": set()}
                return {"run": {"info": info}}
            case "runs/log-batch":
                assert len(body.get("metrics", [])) <= MOST_METRICS
                run = self.runs[body["run_id"]]
                run["params"] |= {each["key"]: each["value"] for each in body.get("params", [])}
                run["metrics"] |= {tuple(each.values()) for each in body.get("metrics", [])}
            case "runs/update":
                self.runs[body["run_id"]]["info"]["status"] = body["status"]
        return {}


def rows(epochs: int) -> list[dict[str, Any]]:
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    return [
        {"epoch": epoch, "training_seconds": 2.0, "selection_seconds": 0.5} | dict.fromkeys(names, epoch / 10)
        for epoch in range(1, epochs + 1)
    ]


def run(seed: int) -> Run:
    return Run("004", "glister", 0.5, seed, "job-4", 0.9, 0.8, 0.85, 2, 5.0, 1.0, 30.0, "v1", "d1")


def values(mlflow: Mlflow, name: str) -> list[tuple[Any, ...]]:
    (only,) = mlflow.runs.values()
    return sorted(each[1:] for each in only["metrics"] if each[0] == name)


def test_each_seed_is_a_run_with_its_epochs() -> None:
    mlflow = Mlflow()
    assert log(mlflow, "digits", SWEEP, [(run(0), rows(2))], BEGAN) == 1
    (only,) = mlflow.runs.values()
    assert only["info"]["status"] == "FINISHED"
    assert only["tags"]["mlflow.runName"] == "glister-0.5-0"
    assert only["params"] == {
        "strategy": "glister",
        "fraction": "0.5",
        "seed": "0",
        "dataset": "digits",
        "labels": "v1",
        "data": "d1",
        "epochs": "2",
    }
    assert values(mlflow, "validation_loss") == [(0.1, 1_700_000_002_500, 1), (0.2, 1_700_000_005_000, 2)]
    assert values(mlflow, "test_accuracy") == [(0.9, 1_700_000_005_000, 2)]


@pytest.mark.parametrize("fail_at", range(1, 12))
def test_repetition_completes_a_failed_logging(fail_at: int) -> None:
    # given a comparison that fails at one of its requests to MLflow
    mlflow, tracked = Mlflow(), [(run(seed), rows(2)) for seed in (0, 1)]
    mlflow.fail_at = fail_at
    with pytest.raises(TimeoutError):
        log(mlflow, "digits", SWEEP, tracked, BEGAN)
    # when the comparison runs again, twice
    log(mlflow, "digits", SWEEP, tracked, BEGAN)
    assert log(mlflow, "digits", SWEEP, tracked, BEGAN) == 0
    # then each seed is logged once, with each epoch once
    assert sorted(each["tags"][KEY] for each in mlflow.runs.values()) == ["job-4/0", "job-4/1"]
    assert len(mlflow.experiments) == 1
    assert {len(each["metrics"]) for each in mlflow.runs.values()} == {2 * 6 + 4}


def test_many_epochs_are_logged_in_several_requests() -> None:
    mlflow = Mlflow()
    log(mlflow, "digits", SWEEP, [(run(0), rows(400))], BEGAN)
    assert len(values(mlflow, "train_loss")) == 400


@pytest.mark.parametrize(
    ("loss", "shown"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")]
)
def test_loss_that_is_no_number_is_logged_as_text(loss: float, shown: str) -> None:
    mlflow, broken = Mlflow(), rows(1)
    broken[0]["train_loss"] = loss
    log(mlflow, "digits", SWEEP, [(run(0), broken)], BEGAN)
    assert values(mlflow, "train_loss")[0][0] == shown
