"""A sweep on the running local cloud with enforced IAM and the project's own training image."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pyarrow.compute as pc
import pyarrow.parquet
import pytest

from data_centric.aws.mlflow_app import MlflowApp
from local.cloud import LocalCloud
from scenarios.data_centric import results
from tests.support.data_centric.columns import arrays, manifest
from tests.support.data_centric.deployed import STACK
from tests.support.waiting import until

ONLY = {"only": "data_centric"}
GIVEN: dict[str, Any] = {
    "dataset": "columns",
    "strategies": ["glister"],
    "fractions": [0.5],
    "seeds": [0, 1],
    "hyperparameters": {"epochs": 2, "interval": 1, "threads": 1},
    "attribute": "column",
}

Outputs = dict[str, str]
Execution = dict[str, Any]


@pytest.fixture(scope="module")
def deployed(cloud: LocalCloud, aws: Callable) -> Iterator[Outputs]:
    cloud.configure(create_training_job_burst=100)
    context = ONLY | {"data_centric.sweep.tracking": "true", "data_centric.sweep.at_once": "2"}
    outputs = cloud.deploy(STACK, context=context)[STACK]
    for number, channel in enumerate(("train", "validation", "test")):
        key = f"datasets/columns/{channel}/part.npz"
        aws("s3").put_object(Bucket=outputs["DataBucket"], Key=key, Body=arrays(60, number))
    key = "datasets/columns/labels.manifest"
    aws("s3").put_object(Bucket=outputs["DataBucket"], Key=key, Body=manifest(60, 0))
    cloud.enforce_iam(True)
    yield outputs
    cloud.enforce_iam(False)


@pytest.fixture(scope="module")
def run(aws: Callable, deployed: Outputs) -> Callable[..., Execution]:
    """Return a function that runs a sweep to its end, and returns the execution with its output as an
    object."""

    def execute(**changes: Any) -> Execution:
        states, text = aws("stepfunctions"), json.dumps(GIVEN | changes)
        arn = states.start_execution(stateMachineArn=deployed["SweepArn"], input=text)["executionArn"]

        def ended() -> Execution | None:
            found = states.describe_execution(executionArn=arn)
            return None if found["status"] == "RUNNING" else found

        found = until(ended, "the sweep's end", 1500)
        return found | {"output": json.loads(found.get("output") or "null")}

    return execute


@pytest.fixture(scope="module")
def read(aws: Callable) -> Callable[[str], bytes]:
    def content(url: str) -> bytes:
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return aws("s3").get_object(Bucket=bucket, Key=key)["Body"].read()

    return content


@pytest.fixture(scope="module")
def swept(cloud: LocalCloud, run: Callable[..., Execution]) -> Execution:
    """A sweep in which the first call is throttled, one job loses its instance and another job is stopped."""
    faults = ("fault_throttle_training_jobs", "fault_fail_training_jobs", "fault_stop_training_jobs")
    cloud.configure(**dict.fromkeys(faults, 1))
    found = run()
    assert found["status"] == "SUCCEEDED", found
    return found


@pytest.mark.timeout(1800)
def test_sweep_compares_completed_jobs(swept: Execution, read: Callable[[str], bytes]) -> None:
    # given a sweep in which a call was throttled, a job lost its instance and another was stopped
    output = swept["output"]
    # then all jobs but the stopped one have completed, and the stopped one is recorded with its reason
    (stopped,) = output["failed"]
    assert (output["completed"], stopped["reason"]) == (3, "the job is Stopped (Stopped)")
    assert output["estimate"]["jobs"] == 4
    # and table.csv has a row for each job, and runs.csv a row for each seed of the completed jobs
    table = list(csv.DictReader(io.StringIO(read(f"{output['folder']}/table.csv").decode())))
    assert [(row["strategy"], row["fraction"]) for row in table] == [
        ("full", "1.0"),
        ("fewer_epochs", "0.5"),
        ("adaptive_random", "0.5"),
        ("glister", "0.5"),
    ]
    whole = [row for row in table if row["cell"] != stopped["cell"]]
    assert all(row["runs"] == "2" and 0 < float(row["billed_seconds"]) < 600 for row in whole)
    runs = list(csv.DictReader(io.StringIO(read(f"{output['folder']}/runs.csv").decode())))
    assert {(row["cell"], row["seed"]) for row in runs} == {
        (row["cell"], seed) for row in whole for seed in ("0", "1")
    }
    # and each run records the versions of the labels and of the data that it was trained on
    assert {row["labels"] for row in runs} == {output["labels"]} != {""}
    assert len({row["data"] for row in runs}) == 1
    # and there is a file with the epochs of each completed job, and a chart
    for row in whole:
        epochs = pyarrow.parquet.read_table(
            io.BytesIO(read(f"{output['folder']}/epochs/{row['cell']}.parquet"))
        )
        assert set(epochs["strategy"].to_pylist()) == {row["strategy"]}
    assert read(f"{output['folder']}/chart.svg").startswith(b"<svg")
    assert output["recommendation"]["reason"]


@pytest.mark.timeout(1800)
def test_runs_of_a_sweep_are_logged_with_mlflow(
    swept: Execution, aws: Callable, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cloud.env().items():
        monkeypatch.setenv(name, value)
    (app,) = aws("sagemaker").list_mlflow_apps()["Summaries"]
    mlflow = MlflowApp(boto3.Session(), app["Arn"])
    experiment = mlflow.find_experiment("default")
    found = mlflow.post("runs/search", {"experiment_ids": [experiment], "max_results": 100})["runs"]
    assert len(found) == 6
    assert {each["info"]["status"] for each in found} == {"FINISHED"}
    metrics = {each["key"] for each in found[0]["data"]["metrics"]}
    assert {"validation_accuracy", "train_loss", "selection_seconds", "test_accuracy"} <= metrics
    parameters = {each["key"]: each["value"] for each in found[0]["data"]["params"]}
    assert parameters["labels"] == swept["output"]["labels"]


def test_results_of_an_experiment_are_one_table(
    swept: Execution, cloud: LocalCloud, deployed: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a sweep of the experiment `default`
    for name, value in cloud.env().items():
        monkeypatch.setenv(name, value)
    # when the results of the experiment are read
    runs = results.runs(deployed["DataBucket"], "default")
    epochs = results.epochs(deployed["DataBucket"], "default")
    # then the results contain each run of each job, the best run first
    ours = runs.filter(pc.field("sweep") == swept["output"]["folder"].rpartition("/")[2])
    assert ours.num_rows == 6
    best = runs["best_validation_accuracy"].to_pylist()
    assert best == sorted(best, reverse=True)
    assert set(ours["labels"].to_pylist()) == {swept["output"]["labels"]}
    # and the results contain each epoch of these runs, with losses and seconds
    assert {"train_loss", "validation_accuracy", "training_seconds", "selection_seconds"} <= set(
        epochs.column_names
    )
    assert set(ours["cell"].to_pylist()) <= set(epochs["cell"].to_pylist())
    with pytest.raises(LookupError, match="experiment none has no results"):
        results.runs(deployed["DataBucket"], "none")


def test_job_that_lost_its_instance_is_started_again(swept: Execution, aws: Callable) -> None:
    names = [job["TrainingJobName"] for job in jobs(aws)]
    assert sorted(name.rpartition("-")[2] for name in names) == ["1", "1", "1", "1", "2"]
    assert len(set(names)) == 5


@pytest.fixture(scope="module")
def searched(run: Callable[..., Execution]) -> Execution:
    """A sweep with a tuning job over the fraction, instead of a list of fractions."""
    found = run(fractions=[0.2, 0.8], seeds=[0, 1], search={"method": "Random", "jobs": 2, "at_once": 2})
    assert found["status"] == "SUCCEEDED", found
    return found


@pytest.mark.timeout(1800)
def test_search_chooses_the_fractions_of_one_strategy(
    searched: Execution, read: Callable[[str], bytes]
) -> None:
    # given a sweep with a search, then the control strategies have the fractions at the ends of the range,
    # and the search has tried two fractions between them
    table = json.loads(read(f"{searched['output']['folder']}/table.json"))
    assert [row["strategy"] for row in table] == ["full", *["fewer_epochs"] * 2, *["adaptive_random"] * 2] + (
        ["glister"] * 2
    )
    ours = [row for row in table if row["strategy"] == "glister"]
    assert all(0.2 <= row["fraction"] <= 0.8 and row["runs"] == 2 for row in ours)
    assert len({row["fraction"] for row in ours}) == 2
    assert all(row["difference_low"] <= row["difference_mean"] for row in ours)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fractions": [0]}, "Plan: fractions must be numbers above 0 and up to 1, got 0"),
        ({"strategies": ["glitter"]}, "Plan: strategies must be among full, fewer_epochs"),
        ({"dataset": "gap"}, "channel validation must have an example of each class, got none of 2"),
        ({"dataset": "broken"}, "invalid manifest: line 2: is not JSON"),
        ({"dataset": "nothing"}, "dataset nothing must have a channel train, got none"),
        ({"most_dollars": 0.01}, "Plan: the sweep can cost"),
    ],
)
def test_bad_sweep_is_refused_before_any_job(
    changes: dict[str, Any], sentence: str, run: Callable[..., Execution], aws: Callable, deployed: Outputs
) -> None:
    # given invalid datasets
    bucket = deployed["DataBucket"]
    for name, validation, labels in (
        ("gap", arrays(2, 1), manifest(60, 0)),
        ("broken", arrays(60, 1), manifest(60, 0).replace(b"}\n", b"}\n{oops\n", 1)),
    ):
        bodies = {"train": arrays(60, 0), "validation": validation, "test": arrays(60, 2)}
        for channel, body in bodies.items():
            aws("s3").put_object(Bucket=bucket, Key=f"datasets/{name}/{channel}/part.npz", Body=body)
        aws("s3").put_object(Bucket=bucket, Key=f"datasets/{name}/labels.manifest", Body=labels)
    before = len(jobs(aws))
    # when the sweep is started
    found = run(**changes)
    # then the sweep fails with the reason, and starts no job
    assert (found["status"], found["error"]) == ("FAILED", "PlanFailed")
    assert sentence in found["cause"]
    assert len(jobs(aws)) == before


def test_estimate_starts_no_job(run: Callable[..., Execution], aws: Callable) -> None:
    before = len(jobs(aws))
    found = run(estimate_only=True)
    assert found["output"]["estimate"]["dollars_per_hour"] > 0
    assert len(jobs(aws)) == before


@pytest.mark.timeout(1800)
def test_deleted_stack_leaves_no_jobs_and_no_logs(
    searched: Execution, cloud: LocalCloud, aws: Callable, deployed: Outputs
) -> None:
    # given a running tuning job of the stack
    sagemaker = aws("sagemaker")
    (earlier,) = sagemaker.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"]
    job = sagemaker.describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=earlier["HyperParameterTuningJobName"]
    )
    name, definition = f"{job['HyperParameterTuningJobName'][:-12]}ffffffffffff", job["TrainingJobDefinition"]
    definition["StaticHyperParameters"]["epochs"] = "10000"
    definition["StaticHyperParameters"] = {
        key: value for key, value in definition["StaticHyperParameters"].items() if not key.startswith("_")
    }
    sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name,
        HyperParameterTuningJobConfig=job["HyperParameterTuningJobConfig"],
        TrainingJobDefinition=definition,
    )
    until(lambda: streams(aws, name), "the first log line of a training job")
    # and a running processing job that examines labels
    examined = examination(aws, deployed["ExamineArn"])
    until(lambda: streams(aws, examined, "Processing"), "the first log line of the processing job")
    # when the stack is deleted
    cloud.destroy(STACK, context=ONLY)
    # then the tuning job, its training jobs and the processing job have ended, and their logs are deleted
    for each in sagemaker.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"]:
        assert each["HyperParameterTuningJobStatus"] in ("Completed", "Stopped")
    running = sagemaker.list_training_jobs(StatusEquals="InProgress", NameContains=name)
    assert running["TrainingJobSummaries"] == []
    assert streams(aws, name[:-12]) == streams(aws, f"{STACK}-sweep-") == []
    job = sagemaker.describe_processing_job(ProcessingJobName=examined)
    assert job["ProcessingJobStatus"] == "Stopped", job
    assert streams(aws, examined, "Processing") == []


def examination(aws: Callable, machine: str) -> str:
    """Start a processing job that would run for an hour, with the role and the form of name that the state
    machine `machine` gives to its processing jobs; return the job's name."""
    definition = aws("stepfunctions").describe_state_machine(stateMachineArn=machine)["definition"]
    job = json.loads(definition)["States"]["Start"]["Arguments"]
    program = "import time; print('begun', flush=True); time.sleep(3600)"
    aws("sagemaker").create_processing_job(
        ProcessingJobName=f"{STACK}-examine-ffffffffffff",
        AppSpecification=job["AppSpecification"]
        | {"ContainerEntrypoint": ["python", "-c"], "ContainerArguments": [program]},
        **{name: job[name] for name in ("RoleArn", "ProcessingResources", "NetworkConfig")},
    )
    return f"{STACK}-examine-ffffffffffff"


def streams(aws: Callable, prefix: str, kind: str = "Training") -> list[str]:
    """Return the names of the log streams of jobs of the kind `kind` that begin with `prefix`."""
    logs, group = aws("logs"), f"/aws/sagemaker/{kind}Jobs"
    if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        return []
    found = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=prefix)
    return [stream["logStreamName"] for stream in found["logStreams"]]


def jobs(aws: Callable) -> list[dict[str, Any]]:
    found = aws("sagemaker").list_training_jobs(NameContains=f"{STACK}-sweep-", MaxResults=100)
    return found["TrainingJobSummaries"]
