"""The comparison as the state machine calls it: its output files, also when MLflow fails."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from data_centric.aws import sweep_desk
from data_centric.aws.mlflow_app import MlflowError
from data_centric.aws.sweep_store import JobFiles
from data_centric.handlers import sweep_compare

FOLDER = "sweeps/default/1"
SWEEP = {"experiment": "default", "dataset": "digits", "seeds": [0, 1], "tolerance": 0.01}
CELLS = [
    {"id": "001", "strategy": "full", "fraction": 1.0},
    {"id": "002", "strategy": "adaptive_random", "fraction": 0.5},
]
CONTEXT: Any = SimpleNamespace(
    function_name="compare", memory_limit_in_mb=1, invoked_function_arn="arn", aws_request_id="1"
)


class Bucket:
    """A bucket with the plan of a sweep and the files of its jobs."""

    def __init__(self) -> None:
        plan = {"sweep": SWEEP | {"hyperparameters": {}}, "cells": CELLS, "labels": "v1", "began": 1.0}
        self.files: dict[str, bytes | str] = {f"{FOLDER}/plan.json": json.dumps(plan)}

    def get(self, key: str) -> Any:
        return self.files.get(key)

    def put(self, key: str, body: bytes | str, content_type: str) -> None:
        self.files[key] = body

    def url(self, key: str) -> str:
        return f"s3://bucket/{key}"

    def job_files(self, folder: str) -> JobFiles:
        (cell,) = (each for each in CELLS if folder.endswith(each["id"]))
        run = {"validation_accuracy": 0.9, "best_validation_accuracy": 0.9, "epochs": 1, "seconds": 1.0}
        run |= {"selection_seconds": 0.1}
        found = [run | {"seed": seed, "test_accuracy": 0.9 + seed / 100} for seed in (0, 1)]
        settings = {"strategy": cell["strategy"], "fraction": cell["fraction"]}
        return JobFiles({"settings": settings, "runs": found, "data": "d1"}, b"PAR1", [])


class Broken:
    """An MLflow app that does not answer."""

    def find_experiment(self, name: str) -> str:
        raise MlflowError("", "MLflow does not answer")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    found = Bucket()
    monkeypatch.setattr(sweep_desk, "bucket", lambda: found)
    monkeypatch.setattr(sweep_desk, "tracking", lambda: None)
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "tests")
    return found


def compare(**jobs: float) -> dict[str, Any]:
    """Run the comparison of completed jobs; each argument is a cell's id after `_`, with the billed seconds
    of the cell's job."""
    outcomes = [
        {"cell": name[1:], "job": f"job-{name[1:]}", "status": "Completed", "reason": "", "billed_seconds": s}
        for name, s in jobs.items()
    ]
    return sweep_compare.handler({"folder": FOLDER, "outcomes": outcomes, "search": ""}, CONTEXT)


def test_comparison_writes_results_and_recommends(bucket: Bucket) -> None:
    report = compare(_001=100, _002=50)
    assert (report["completed"], report["failed"], report["untracked"]) == (2, [], "")
    assert report["recommendation"]["strategy"] == "adaptive_random"
    names = {key.removeprefix(f"{FOLDER}/") for key in bucket.files}
    assert {"runs.csv", "table.csv", "table.json", "chart.svg", "report.json"} <= names
    assert {"epochs/001.parquet", "epochs/002.parquet", "sweeps/default/latest.json"} <= names


def test_sweep_succeeds_when_mlflow_fails(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_desk, "tracking", Broken)
    report = compare(_001=100, _002=50)
    assert report["untracked"] == "MLflow does not answer"
    assert report["recommendation"]["strategy"] == "adaptive_random"


def test_job_without_its_files_counts_as_failed(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(folder: str) -> JobFiles:
        raise ValueError(f"{folder} has no output.tar.gz")

    monkeypatch.setattr(bucket, "job_files", missing)
    report = compare(_001=100, _002=50)
    assert report["completed"] == 0
    assert report["failed"][0]["reason"] == "training/job-001 has no output.tar.gz"
