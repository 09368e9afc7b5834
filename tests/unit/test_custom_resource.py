"""Every request of CloudFormation gets one response with its result."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack
from aws_cdk import aws_lambda as lambda_
from botocore.exceptions import ClientError

from groundplan.lambdas import FOLDER, code_of, custom_resource
from groundplan.lambdas.clean_up import handler as clean_up
from groundplan.lambdas.custom_resource import Request
from tests.support.custom_resources import cloudformation


class Recorder:
    """A custom resource that records the requests and fails with `error`."""

    def __init__(self, error: Exception | None = None):
        self.error = error
        self.requests: list[Request] = []

    def __call__(self, event: Mapping[str, Any], context: Any) -> None:
        custom_resource.respond(event, context, identify=lambda given: given["Name"], work=self.work)

    def work(self, request: Request) -> None:
        self.requests.append(request)
        if self.error:
            raise self.error


def test_clean_up_ignores_jobs_that_ended_meanwhile(monkeypatch: pytest.MonkeyPatch):
    # given jobs that end between the list and the call that stops them
    listed = {
        "list_hyper_parameter_tuning_jobs": "HyperParameterTuningJob",
        "list_training_jobs": "TrainingJob",
        "list_processing_jobs": "ProcessingJob",
    }
    stopped: list[str] = []

    def ended(kind: str, **arguments: str) -> None:
        stopped.append(kind)
        message = "The request was rejected because the job is in status Completed."
        raise ClientError({"Error": {"Code": "ValidationException", "Message": message}}, f"Stop{kind}")

    class Client:
        stop_training_job = functools.partial(ended, "TrainingJob")
        stop_hyper_parameter_tuning_job = functools.partial(ended, "HyperParameterTuningJob")
        stop_processing_job = functools.partial(ended, "ProcessingJob")

        def get_paginator(self, operation: str) -> Client:
            self.operation = operation
            return self

        def paginate(self, **arguments: str) -> list[dict[str, Any]]:
            kind = listed.get(self.operation, "")
            jobs = [{f"{kind}Name": "sweep-1-a"}] if arguments.get("StatusEquals") == "InProgress" else []
            keys = ("Endpoints", "EndpointConfigs", "Models", "logStreams", "logGroups")
            return [{**{key: [] for key in keys}, f"{kind}Summaries": jobs}]

    stop = Client()
    for call in (stop.stop_training_job, stop.stop_hyper_parameter_tuning_job, stop.stop_processing_job):
        call.__dict__["__name__"] = "stop"
    monkeypatch.setattr(clean_up, "client", lambda service: stop)
    # when the stack is deleted, then the jobs that have ended do not stop its deletion
    others = {"HyperParameterTuningJob": "sweep-1", "ProcessingJob": "sweep-1"}
    clean_up.delete(clean_up.Leftovers("sweep-1", "", "", ("a",), others), lambda: 100.0)
    assert stopped == ["HyperParameterTuningJob", "TrainingJob", "ProcessingJob"]


def test_respond_answers_with_the_id_from_the_properties():
    with cloudformation() as stub:
        answer = stub.request(Recorder(), "Update", {"Name": "new"}, physical_id="old")
    assert answer == {
        "Status": "SUCCESS",
        "Reason": "",
        "PhysicalResourceId": "new",
        "StackId": "s",
        "RequestId": "r",
        "LogicalResourceId": "l",
    }


def test_respond_keeps_the_id_of_a_deleted_resource():
    resource = Recorder()
    with cloudformation() as stub:
        answer = stub.request(resource, "Delete", {"Name": "new"}, physical_id="old")
    assert answer["PhysicalResourceId"] == resource.requests[0].physical_id == "old"
    assert resource.requests[0].deletes


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_respond_retries_until_the_response_is_accepted(failures, monkeypatch):
    monkeypatch.setattr(custom_resource.time, "sleep", lambda seconds: None)
    resource = Recorder(ValueError("no such table"))
    with cloudformation(failures) as stub:
        answer = stub.request(resource, "Create", {"Name": "x"})
    assert len(stub.answers) == len(resource.requests) == 1
    assert (answer["Status"], answer["Reason"]) == ("FAILED", "ValueError: no such table")
    assert answer["PhysicalResourceId"] == "x"


def test_respond_raises_when_no_response_is_accepted(monkeypatch):
    monkeypatch.setattr(custom_resource.time, "sleep", lambda seconds: None)
    with cloudformation(failures=3) as stub, pytest.raises(OSError, match="500"):
        stub.request(Recorder(), "Create", {"Name": "x"})


@pytest.mark.parametrize("text", ["x" * 5000, "\N{GRINNING FACE}" * 5000, '"' * 5000])
def test_respond_cuts_a_long_reason(text):
    with cloudformation() as stub:
        answer = stub.request(Recorder(ValueError(text)), "Create", {"Name": "x"})
    assert answer["Reason"].startswith("ValueError: ")
    assert len(answer["Reason"].encode()) in range(990, 1001)


def test_respond_leaves_time_for_the_answer():
    resource = Recorder()
    with cloudformation() as stub:
        stub.request(resource, "Create", {"Name": "x"}, seconds=custom_resource.SPARE_SECONDS)
    assert resource.requests[0].deadline <= time.monotonic()


@pytest.mark.parametrize("handler", [Recorder(), clean_up.handler])
def test_respond_rolls_back_a_creation_without_its_properties(handler):
    with cloudformation() as stub:
        # when a creation fails before it has a physical id, and is rolled back
        made = stub.request(handler, "Create", {})
        deleted = stub.request(handler, "Delete", {}, physical_id=made["PhysicalResourceId"])
    # then the responses report the missing properties, and no other work is done
    assert made["Status"] == "FAILED"
    assert made["Reason"].startswith("KeyError: ")
    assert deleted["Status"] == "SUCCESS"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in FOLDER.glob("*/handler.py")))
def test_code_of_a_function_imports_on_its_own(name, tmp_path):
    # given the asset of a function
    stack = Stack(App(outdir=str(tmp_path)), "Stack")
    lambda_.Function(
        stack, "Function", code=code_of(name), handler="x.y", runtime=lambda_.Runtime.PYTHON_3_14
    )
    (asset,) = tmp_path.glob("asset.*")
    # when the code is imported without this project
    boto3 = Path(pytest.importorskip("boto3").__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-c", "import handler; handler.handler"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{asset}:{boto3}"},
        capture_output=True,
        text=True,
    )
    # then the asset has all needed modules and no others
    assert done.returncode == 0, done.stderr
    files = {path.relative_to(asset).as_posix() for path in asset.rglob("*") if path.is_file()}
    assert files == {"handler.py", "groundplan/lambdas/custom_resource.py"}
