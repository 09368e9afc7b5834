"""Training jobs as a caller of SageMaker sees them: real processes, real S3, real logs."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.local.conftest import until

BUCKET = "training-tests"
ROLE = "arn:aws:iam::000000000000:role/training"
IMAGE = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/training-tests:1"
ENDED = ("Completed", "Failed", "Stopped")

DOCKERFILE = """
FROM public.ecr.aws/docker/library/python:3.11-slim
ENV PYTHONUNBUFFERED=1
COPY train.py /opt/program/train.py
ENTRYPOINT ["python", "/opt/program/train.py"]
"""
PROGRAM = """
import json, os, pathlib, signal, socket, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
config = base / "input" / "config"
resources = json.loads((config / "resourceconfig.json").read_text())
host, hosts = resources["current_host"], resources["hosts"]
exec(json.loads((config / "hyperparameters.json").read_text())["script"])
"""
"""A container that runs what its hyperparameter says."""

PACES = {
    "training_checkpoint_interval": 0.2,
    "training_log_interval": 0.1,
    "training_stop_grace": 2.0,
    "create_training_job_burst": 50,
    "create_training_job_per_second": 50.0,
}

names = (f"job-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """One cloud for all of these tests, with the image pushed to it as `docker` would."""
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as cloud:
        context = tmp_path_factory.mktemp("image")
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "train.py").write_text(PROGRAM)
        client(cloud, "ecr").create_repository(repositoryName="training-tests")
        docker, env = cloud.env()["CDK_DOCKER"], os.environ | cloud.env()
        for command in (["build", "--tag", IMAGE, "."], ["push", IMAGE]):
            subprocess.run([docker, *command], check=True, cwd=context, env=env, capture_output=True)
        yield cloud


@pytest.fixture
def cloud(running: LocalCloud) -> Iterator[LocalCloud]:
    running.configure(**PACES)
    yield running
    running.enforce_iam(False)
    sagemaker = client(running, "sagemaker")
    for name in running.status()["training_jobs_running"]:
        sagemaker.stop_training_job(TrainingJobName=name)
        ended(sagemaker, name)
    changed = running.configure()
    running.configure(**dict.fromkeys([*changed, "faults_injected"]))
    assert list((running.home / "instances").glob("training/*")) == [], "a job left files behind"


@pytest.fixture
def sagemaker(cloud: LocalCloud) -> Any:
    return client(cloud, "sagemaker")


@pytest.fixture
def s3(cloud: LocalCloud) -> Any:
    s3 = client(cloud, "s3")
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return s3


def client(cloud: LocalCloud, service: str, attempts: int = 5) -> Any:
    env = cloud.env()
    return boto3.client(
        service,
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": attempts}),
    )


def request(script: str, instances: int = 1, **members: Any) -> dict[str, Any]:
    algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File"} | members.pop("algorithm", {})
    return {
        "TrainingJobName": next(names),
        "AlgorithmSpecification": algorithm,
        "RoleArn": ROLE,
        "HyperParameters": {"script": script},
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": instances, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    } | members


def channel(name: str, uri: str, distribution: str = "FullyReplicated") -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": distribution}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and " Z " not in state.read_text()


def ended(sagemaker: Any, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        job = sagemaker.describe_training_job(TrainingJobName=name)
        return job if job["TrainingJobStatus"] in ENDED else None

    return until(look, f"the end of {name}")


def run(sagemaker: Any, script: str, instances: int = 1, **members: Any) -> dict[str, Any]:
    params = request(script, instances, **members)
    sagemaker.create_training_job(**params)
    return ended(sagemaker, params["TrainingJobName"])


def in_training(sagemaker: Any, name: str) -> bool:
    return sagemaker.describe_training_job(TrainingJobName=name)["SecondaryStatus"] == "Training"


def object_text(s3: Any, key: str) -> str | None:
    try:
        return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
    except ClientError:
        return None


def listen(cloud: LocalCloud) -> Callable[[], list[dict[str, Any]]]:
    """Queue SageMaker's events from now on; returns what gives those that have arrived."""
    sqs, events, name = client(cloud, "sqs"), client(cloud, "events"), next(names)
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.sagemaker"], "detail-type": ["SageMaker Training Job State Change"]}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    arrived: list[dict[str, Any]] = []

    def receive() -> list[dict[str, Any]]:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        arrived.extend(json.loads(message["Body"]) for message in messages)
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return arrived

    return receive


def archive(s3: Any, uri: str) -> dict[str, str]:
    """The files of an archive in S3, as text."""
    body = s3.get_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {
            member.name: tar.extractfile(member).read().decode()  # pyright: ignore[reportOptionalMemberAccess]
            for member in tar.getmembers()
        }


def logged(cloud: LocalCloud, name: str) -> dict[str, list[str]]:
    """The lines of each of a job's log streams."""
    logs, group = client(cloud, "logs"), "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    return {
        stream["logStreamName"]: [
            event["message"]
            for event in logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]
        for stream in streams
    }


def test_a_job_reads_its_channel_and_leaves_model_output_logs_metrics_and_events(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # Given data in S3, a script that declares a metric, and a listener on the bus
    heard = listen(cloud)
    s3.put_object(Bucket=BUCKET, Key="data/a/one.csv", Body=b"1,2,3")
    script = """
print((base / "input/data/train/a/one.csv").read_text(), os.environ["COLOUR"], flush=True)
for loss in ("0.5", "0.25"):
    print(f"validation:rmse={loss}")
print("to standard error", file=sys.stderr)
(base / "model" / "weights").write_text("w")
(base / "output" / "data" / "summary").write_text(json.dumps(sorted(os.environ)))
"""
    # When it is trained
    metric = {"Name": "validation:rmse", "Regex": "validation:rmse=([0-9.eE+-]+)"}
    job = run(
        sagemaker,
        script,
        algorithm={"MetricDefinitions": [metric]},
        InputDataConfig=[channel("train", f"s3://{BUCKET}/data")],
        Environment={"COLOUR": "blue"},
        Tags=[{"Key": "team", "Value": "a"}],
    )
    name = job["TrainingJobName"]
    # Then the job says so, with its times and its transitions in order
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    transitions = job["SecondaryStatusTransitions"]
    assert [each["Status"] for each in transitions] == [
        "Starting", "Downloading", "Training", "Uploading", "Completed"
    ]  # fmt: skip
    assert all(each["StartTime"] <= each["EndTime"] for each in transitions)
    assert job["CreationTime"] <= job["TrainingStartTime"] < job["TrainingEndTime"]
    assert job["BillableTimeInSeconds"] >= 1
    # and the model and the output are in S3
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/out/{name}/output/model.tar.gz"
    assert archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"weights": "w"}
    seen = json.loads(archive(s3, f"s3://{BUCKET}/out/{name}/output/output.tar.gz")["summary"])
    assert {"TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "AWS_REGION", "AWS_ENDPOINT_URL"} <= set(seen)
    # and the lines are in one stream for the instance
    ((stream, lines),) = logged(cloud, name).items()
    assert stream.startswith(f"{name}/algo-1-")
    assert lines == ["1,2,3 blue", "validation:rmse=0.5", "validation:rmse=0.25", "to standard error"]
    # and the last value is the job's, all of them CloudWatch's
    (final,) = job["FinalMetricDataList"]
    assert (final["MetricName"], final["Value"]) == ("validation:rmse", 0.25)
    statistics = client(cloud, "cloudwatch").get_metric_statistics(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricName="validation:rmse",
        Dimensions=[{"Name": "TrainingJobName", "Value": name}],
        StartTime=job["CreationTime"].replace(second=0),
        EndTime=time.time() + 60,
        Period=3600,
        Statistics=["SampleCount", "Sum"],
    )
    assert sum(point["Sum"] for point in statistics["Datapoints"]) == 0.75
    # and the bus heard of each status
    until(lambda: "Completed" in [each["detail"]["SecondaryStatus"] for each in heard()], "the last event")
    events = sorted(heard(), key=lambda each: each["detail"]["LastModifiedTime"])
    details = [each["detail"] for each in events]
    assert [detail["SecondaryStatus"] for detail in details] == [each["Status"] for each in transitions]
    assert details[-1]["TrainingJobStatus"] == "Completed"
    assert details[-1]["Tags"] == {"team": "a"}
    assert {each["resources"][0] for each in events} == {job["TrainingJobArn"]}


def test_two_instances_reach_each_other_by_host_name_on_one_port(sagemaker: Any, s3: Any) -> None:
    # Given a script in which every host listens on the same port under its own name
    script = """
server = socket.create_server((host, 5000))
if host == hosts[0]:
    peer, _ = server.accept()
    heard = peer.recv(100).decode()
else:
    heard = host
    for _ in range(200):
        try:
            with socket.create_connection((hosts[0], 5000)) as peer:
                peer.sendall(host.encode())
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
(base / "model" / host).write_text(heard)
(base / "model" / "both").write_text(host)
(base / "output" / "data" / "resources").write_text(json.dumps(resources))
"""
    # When two train
    job = run(sagemaker, script, instances=2)
    # Then the first heard the second's name, and the model is both hosts' files in one archive
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    output = f"s3://{BUCKET}/out/{job['TrainingJobName']}/output/output.tar.gz"
    resources = json.loads(archive(s3, output)["resources"])
    first, second = resources["hosts"]
    assert archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {
        first: second,
        second: second,
        "both": first,
    }
    assert resources["current_host"] == first
    assert resources["network_interface_name"] == "lo"
    assert resources["instance_groups"] == [
        {
            "instance_group_name": "homogeneousCluster",
            "instance_type": "ml.m5.large",
            "hosts": [first, second],
        }
    ]


def test_a_sharded_channel_is_dealt_out_and_a_replicated_one_is_whole_everywhere(
    sagemaker: Any, s3: Any
) -> None:
    for number in range(5):
        s3.put_object(Bucket=BUCKET, Key=f"parts/part-{number}", Body=b"x")
    script = """
for channel in ("shard", "whole"):
    files = sorted(path.name for path in (base / "input/data" / channel).iterdir())
    (base / "model" / f"{channel}-{hosts.index(host)}").write_text(" ".join(files))
"""
    job = run(
        sagemaker,
        script,
        instances=2,
        InputDataConfig=[
            channel("shard", f"s3://{BUCKET}/parts/", "ShardedByS3Key"),
            channel("whole", f"s3://{BUCKET}/parts/part"),
        ],
    )
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    everything = "part-0 part-1 part-2 part-3 part-4"
    assert archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {
        "shard-0": "part-0 part-2 part-4",
        "shard-1": "part-1 part-3",
        "whole-0": everything,
        "whole-1": everything,
    }


def test_checkpoints_reach_s3_while_the_job_runs_and_the_next_job_starts_from_them(
    sagemaker: Any, s3: Any
) -> None:
    # Given a job that counts in a checkpoint and goes on until it is stopped
    script = """
file = base / "checkpoints" / "state" / "count"
file.parent.mkdir(exist_ok=True)
count = int(file.read_text()) if file.exists() else 0
print("starts from", count)
file.write_text(str(count + 10))
while count == 0:
    time.sleep(1)
(base / "model" / "started_from").write_text(str(count))
"""
    checkpoints = {"S3Uri": f"s3://{BUCKET}/checkpoints/{next(names)}"}
    key = checkpoints["S3Uri"].removeprefix(f"s3://{BUCKET}/") + "/state/count"
    params = request(script, CheckpointConfig=checkpoints)
    sagemaker.create_training_job(**params)
    # When it runs, then its checkpoint is in S3 already
    until(lambda: object_text(s3, key) == "10", "the checkpoint's copy")
    assert in_training(sagemaker, params["TrainingJobName"])
    sagemaker.stop_training_job(TrainingJobName=params["TrainingJobName"])
    assert ended(sagemaker, params["TrainingJobName"])["TrainingJobStatus"] == "Stopped"
    # and a second job goes on from it, and leaves its own at the end
    job = run(sagemaker, script, CheckpointConfig=checkpoints)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"started_from": "10"}
    assert object_text(s3, key) == "20"


def test_a_job_past_its_time_may_save_what_it_has(sagemaker: Any, s3: Any) -> None:
    script = """
def save(*_):
    (base / "model" / "weights").write_text("half trained")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
while True:
    time.sleep(1)
"""
    job = run(sagemaker, script, StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"weights": "half trained"}


def test_a_stopped_job_that_ignores_sigterm_is_killed_with_its_children(
    cloud: LocalCloud, sagemaker: Any, s3: Any, tmp_path: Path
) -> None:
    # Given a job that ignores SIGTERM, and its child too
    script = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
import subprocess
child = subprocess.Popen(["/bin/sleep", "300"])
pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
while True:
    time.sleep(1)
"""
    params = request(script)
    name = params["TrainingJobName"]
    sagemaker.create_training_job(**params)
    until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text(), "the start")
    # When it is stopped
    sagemaker.stop_training_job(TrainingJobName=name)
    # Then it is Stopping, and after the grace Stopped and gone
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Stopping"
    job = ended(sagemaker, name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert [each["Status"] for each in job["SecondaryStatusTransitions"]][-3:] == [
        "Stopping", "Uploading", "Stopped"
    ]  # fmt: skip
    assert not any(alive(int(pid)) for pid in (tmp_path / "pids").read_text().split())
    # and it cannot be stopped again
    with pytest.raises(ClientError, match=r"ValidationException.*is in status Stopped"):
        sagemaker.stop_training_job(TrainingJobName=name)


def test_a_failure_on_one_instance_ends_the_job_with_what_it_wrote(sagemaker: Any, s3: Any) -> None:
    # Given two hosts, of which the second fails and the first would go on for ever
    script = """
(base / "output" / "data" / "rows").write_text("read")
(base / "model" / "half").write_text("")
if host == hosts[0]:
    while True:
        time.sleep(1)
(base / "output" / "failure").write_text("Table HOUSES has no column PRICE. " + "x" * 2000)
sys.exit(3)
"""
    # When they train, then the job fails with the reason, cut, and the exit code
    job = run(sagemaker, script, instances=2)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert job["FailureReason"].startswith("AlgorithmError: Table HOUSES has no column PRICE. xxx")
    assert job["FailureReason"].endswith("x, exit code: 3")
    assert len(job["FailureReason"]) == 1024
    # and the output is kept, but no half of a model
    assert "rows" in archive(s3, f"s3://{BUCKET}/out/{job['TrainingJobName']}/output/output.tar.gz")
    assert "ModelArtifacts" not in job


def test_a_container_that_is_killed_fails_with_a_containers_exit_code(sagemaker: Any, s3: Any) -> None:
    job = run(sagemaker, "os.kill(os.getpid(), signal.SIGKILL)")
    assert job["FailureReason"] == "AlgorithmError: , exit code: 137"


def test_a_channel_without_objects_fails_the_job_and_names_it(sagemaker: Any, s3: Any) -> None:
    uri = f"s3://{BUCKET}/nothing/here/"
    job = run(sagemaker, "", InputDataConfig=[channel("train", uri)])
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(f'ClientError: No S3 objects found under S3 URL "{uri}"')
    assert [each["Status"] for each in job["SecondaryStatusTransitions"]] == [
        "Starting", "Downloading", "Failed"
    ]  # fmt: skip


def test_an_output_that_cannot_be_stored_fails_the_job(sagemaker: Any, s3: Any) -> None:
    output = {"S3OutputPath": "s3://no-such-bucket-anywhere/out"}
    job = run(sagemaker, "", OutputDataConfig=output)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Artifact upload failed:")
    assert "s3://no-such-bucket-anywhere/out" in job["FailureReason"]


def test_lines_are_in_the_log_while_the_job_runs(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    params = request("print('first line'); time.sleep(300)")
    name = params["TrainingJobName"]
    sagemaker.create_training_job(**params)

    def first_line() -> bool:
        try:
            return list(logged(cloud, name).values()) == [["first line"]]
        except ClientError:  # no group yet
            return False

    until(first_line, "the first line")
    assert in_training(sagemaker, name)


def test_the_entry_point_and_its_arguments_may_be_the_jobs_own(sagemaker: Any, s3: Any) -> None:
    code = "import sys, pathlib; pathlib.Path(sys.argv[1], 'm').write_text(str(sys.argv[2:]))"
    algorithm = {
        "ContainerEntrypoint": ["python", "-c", code],
        "ContainerArguments": ["/opt/ml/model", "a b"],
    }
    job = run(sagemaker, "", algorithm=algorithm)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"m": "['a b']"}


def test_jobs_past_the_quota_are_refused_and_fit_again_once_others_end(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    cloud.configure(training_instances=2)
    first = request("time.sleep(300)", instances=2)
    sagemaker.create_training_job(**first)
    with pytest.raises(ClientError, match="ResourceLimitExceeded") as refused:
        sagemaker.create_training_job(**request(""))
    assert (
        "'ml.m5.large for training job usage' is 2 Instances, with current utilization of 2 Instances and a "
        "request delta of 1 Instances"
    ) in str(refused.value)
    sagemaker.stop_training_job(TrainingJobName=first["TrainingJobName"])
    ended(sagemaker, first["TrainingJobName"])
    assert run(sagemaker, "")["TrainingJobStatus"] == "Completed"


def test_calls_too_fast_are_throttled_with_an_error_that_the_sdk_retries(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    cloud.configure(create_training_job_burst=2, create_training_job_per_second=4.0)
    hasty = client(cloud, "sagemaker", attempts=1)
    jobs = [request("") for _ in range(4)]
    for job in jobs[:2]:
        hasty.create_training_job(**job)
    with pytest.raises(ClientError) as throttled:
        hasty.create_training_job(**jobs[2])
    assert throttled.value.response["Error"] == {"Code": "ThrottlingException", "Message": "Rate exceeded"}
    assert throttled.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    # Then the SDK's own retries get another through
    answer = sagemaker.create_training_job(**jobs[3])
    assert answer["ResponseMetadata"]["RetryAttempts"] >= 1
    for job in (*jobs[:2], jobs[3]):
        ended(sagemaker, job["TrainingJobName"])


def test_a_name_is_taken_for_ever_and_an_unknown_one_is_not_found(sagemaker: Any, s3: Any) -> None:
    params = request("")
    sagemaker.create_training_job(**params)
    with pytest.raises(ClientError, match="ResourceInUse"):
        sagemaker.create_training_job(**params)
    ended(sagemaker, params["TrainingJobName"])
    for call in (sagemaker.describe_training_job, sagemaker.stop_training_job):
        with pytest.raises(ClientError, match=r"ValidationException.*Requested resource not found\."):
            call(TrainingJobName="nobody")


def test_many_callers_at_once_lose_no_job(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    cloud.configure(training_instances=100)
    jobs = [request("", TrainingJobName=f"many-{number}") for number in range(12)]
    threads = [threading.Thread(target=lambda job=job: sagemaker.create_training_job(**job)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        assert ended(sagemaker, job["TrainingJobName"])["TrainingJobStatus"] == "Completed"
    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        StatusEquals="Completed", NameContains="many-", PaginationConfig={"PageSize": 5}
    )
    sizes = [len(each["TrainingJobSummaries"]) for each in pages]
    assert sizes == [5, 5, 2]


def test_channels_by_instance_group_and_by_manifest_and_a_model_that_stays_as_files(
    sagemaker: Any, s3: Any
) -> None:
    # Given two groups of instances, a channel for one of them, and another listed by a manifest
    for key in ("listed/a.csv", "listed/b.csv", "listed/c.csv"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    manifest = [{"prefix": f"s3://{BUCKET}/listed/"}, "a.csv", "c.csv"]
    s3.put_object(Bucket=BUCKET, Key="manifest", Body=json.dumps(manifest).encode())
    listed = channel("listed", f"s3://{BUCKET}/manifest")
    listed["DataSource"]["S3DataSource"]["S3DataType"] = "ManifestFile"
    grouped = channel("grouped", f"s3://{BUCKET}/listed/b.csv")
    grouped["DataSource"]["S3DataSource"]["InstanceGroupNames"] = ["readers"]
    groups = [
        {"InstanceGroupName": "readers", "InstanceType": "ml.m5.large", "InstanceCount": 1},
        {"InstanceGroupName": "others", "InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
    ]
    script = """
channels = json.loads((config / "inputdataconfig.json").read_text())
seen = {name: sorted(path.name for path in (base / "input/data" / name).iterdir()) for name in channels}
(base / "model" / resources["current_group_name"]).write_text(json.dumps(seen))
"""
    # When they train, and want their model uncompressed
    job = run(
        sagemaker,
        script,
        InputDataConfig=[listed, grouped],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"},
        ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1},
    )
    # Then each group saw its own
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    place = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert place == f"s3://{BUCKET}/out/{job['TrainingJobName']}/output/model/"
    key = place.removeprefix(f"s3://{BUCKET}/")
    both = {"listed": ["a.csv", "c.csv"]}
    assert json.loads(object_text(s3, f"{key}readers") or "") == both | {"grouped": ["b.csv"]}
    assert json.loads(object_text(s3, f"{key}others") or "") == both


def test_an_isolated_container_gets_no_credentials(sagemaker: Any, s3: Any) -> None:
    script = "(base / 'model' / 'names').write_text(' '.join(os.environ))"
    job = run(sagemaker, script, EnableNetworkIsolation=True)
    names = archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"])["names"].split()
    assert "TRAINING_JOB_NAME" in names
    assert not [name for name in names if name.startswith("AWS_") and name != "AWS_REGION"]


def test_requests_that_this_cloud_cannot_honour_are_refused_by_name(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    pipe = channel("train", f"s3://{BUCKET}/x") | {"InputMode": "Pipe"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"InputDataConfig": [pipe]}, "channel train in Pipe mode"),
        (
            {"algorithm": {"MetricDefinitions": [{"Name": "m", "Regex": "("}]}},
            "regex of metric m is not valid",
        ),
        ({"OutputDataConfig": {"S3OutputPath": "https://x/y"}}, "https://x/y is not an S3 address"),
        ({"ResourceConfig": {"VolumeSizeInGB": 1}}, "InstanceCount"),
    ]
    for members, said in cases:
        with pytest.raises(ClientError, match=said):
            sagemaker.create_training_job(**request("", **members))
    with pytest.raises(ClientError, match="sagemaker:ListAutoMLJobs is not built"):
        client(cloud, "sagemaker", attempts=1).list_auto_ml_jobs()
    assert sagemaker.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"] == []


def test_a_job_that_ran_when_the_server_was_killed_has_failed_and_left_nothing(
    cloud: LocalCloud, sagemaker: Any, s3: Any, tmp_path: Path
) -> None:
    # Given a running job with a checkpoint
    script = f"""
import subprocess
child = subprocess.Popen(["/bin/sleep", "300"])
pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
pathlib.Path({str(tmp_path / "scratch")!r}).write_text(os.environ["TMPDIR"])
(base / "checkpoints" / "count").write_text("10")
time.sleep(300)
"""
    checkpoints = {"S3Uri": f"s3://{BUCKET}/checkpoints/{next(names)}"}
    key = checkpoints["S3Uri"].removeprefix(f"s3://{BUCKET}/") + "/count"
    params = request(script, CheckpointConfig=checkpoints)
    sagemaker.create_training_job(**params)
    until(lambda: object_text(s3, key) == "10", "the checkpoint's copy")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    # When the server is killed
    cloud.kill()
    # Then its processes end by themselves
    until(lambda: not any(alive(pid) for pid in pids), "the end of the job's processes")
    # and when it is started again, the job has failed with a reason, and its files are gone
    cloud.start()
    job = sagemaker.describe_training_job(TrainingJobName=params["TrainingJobName"])
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert "local cloud ended" in job["FailureReason"]
    assert list((cloud.home / "instances").glob("training/*")) == []
    assert not Path((tmp_path / "scratch").read_text()).exists()
    # and a job that goes on from the checkpoint completes
    again = request(
        "assert (base / 'checkpoints' / 'count').read_text() == '10'", CheckpointConfig=checkpoints
    )
    sagemaker.create_training_job(**again)
    assert ended(sagemaker, again["TrainingJobName"])["TrainingJobStatus"] == "Completed"


def test_a_job_that_runs_when_the_cloud_is_stopped_says_so(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    params = request("time.sleep(300)")
    sagemaker.create_training_job(**params)
    until(lambda: in_training(sagemaker, params["TrainingJobName"]), "the start")
    cloud.stop()
    assert list((cloud.home / "instances").glob("training/*")) == []
    cloud.start()
    job = sagemaker.describe_training_job(TrainingJobName=params["TrainingJobName"])
    assert job["TrainingJobStatus"] == "Failed"
    assert "local cloud ended" in job["FailureReason"]


GRANTS = {
    "pull": [
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage",
    ],
    "read": ["s3:GetObject", "s3:ListBucket"],
    "write": ["s3:PutObject"],
    "logs": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "cloudwatch:PutMetricData"],
}


def role(cloud: LocalCloud, *without: str) -> str:
    """A role for SageMaker with all of GRANTS but these; returns its ARN."""
    iam, name = client(cloud, "iam"), next(names)
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "sagemaker.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    document = {"Version": "2012-10-17", "Statement": [trust]}
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
    actions = [action for grant, actions in GRANTS.items() if grant not in without for action in actions]
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}],
    }
    iam.put_role_policy(RoleName=name, PolicyName="grants", PolicyDocument=json.dumps(policy))
    return arn


def test_a_job_acts_under_its_own_role_and_fails_where_a_grant_is_missing(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # Given policies that are enforced, and data
    s3.put_object(Bucket=BUCKET, Key="granted/one", Body=b"1")
    data: dict[str, Any] = {"InputDataConfig": [channel("train", f"s3://{BUCKET}/granted")]}
    roles = {without: role(cloud, without) for without in ("", *GRANTS)}
    cloud.enforce_iam(True)
    # When every grant is there, the job completes, and its container may do what the role may
    script = """
import urllib.request
print(os.environ["AWS_ACCESS_KEY_ID"][:4])
"""
    job = run(sagemaker, script, RoleArn=roles[""], **data)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert list(logged(cloud, job["TrainingJobName"]).values()) == [["ASIA"]]
    # When the role may not read, or not write, the job fails and says what it may not do
    for without, action in (("read", "s3:ListBucket"), ("write", "s3:PutObject")):
        job = run(sagemaker, "", RoleArn=roles[without], **data)
        assert job["TrainingJobStatus"] == "Failed"
        assert "AccessDenied" in job["FailureReason"]
        assert action in job["FailureReason"]
    # When it may not pull the image, there is no job
    with pytest.raises(ClientError, match=r"ValidationException.*not authorized to perform: ecr:"):
        sagemaker.create_training_job(**request("", RoleArn=roles["pull"]))
    # When it may not write logs, the job completes without any
    job = run(sagemaker, "print('unheard')", RoleArn=roles["logs"])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert logged(cloud, job["TrainingJobName"]) == {}
    # When SageMaker may not assume it, there is no job
    with pytest.raises(ClientError, match="Could not assume role"):
        sagemaker.create_training_job(**request("", RoleArn="arn:aws:iam::000000000000:role/nobodys"))


def caller(cloud: LocalCloud, *statements: dict[str, Any]) -> Any:
    """A SageMaker client of a person with these policy statements and no others."""
    iam, name = client(cloud, "iam"), next(names)
    iam.create_user(UserName=name)
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow"} | each for each in statements]}
    iam.put_user_policy(UserName=name, PolicyName="grants", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return boto3.client(
        "sagemaker",
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )


def test_a_caller_may_start_only_the_jobs_and_pass_only_the_roles_that_its_policies_say(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # Given a caller who may start jobs of one name's prefix, and pass one role to SageMaker
    own, other = role(cloud), role(cloud)
    jobs = f"arn:aws:sagemaker:{cloud.region}:000000000000:training-job/mine-*"
    passing = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    person = caller(
        cloud,
        {"Action": ["sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob"], "Resource": jobs},
        {"Action": "iam:PassRole", "Resource": own, "Condition": passing},
    )
    cloud.enforce_iam(True)
    # When that is what is asked for, then the job runs
    name = f"mine-{next(names)}"
    person.create_training_job(**request("", TrainingJobName=name, RoleArn=own))
    assert ended(person, name)["TrainingJobStatus"] == "Completed"
    # When it is another job, another role, tags or another operation, it is denied by name
    tag: dict[str, Any] = {"Tags": [{"Key": "a", "Value": "b"}]}
    for action, asked in (
        ("sagemaker:CreateTrainingJob", request("", RoleArn=own)),
        ("iam:PassRole", request("", TrainingJobName="mine-2", RoleArn=other)),
        ("sagemaker:AddTags", request("", TrainingJobName="mine-2", RoleArn=own, **tag)),
    ):
        with pytest.raises(ClientError, match=rf"AccessDeniedException.*not authorized to perform: {action}"):
            person.create_training_job(**asked)
    with pytest.raises(ClientError, match="not authorized to perform: sagemaker:StopTrainingJob"):
        person.stop_training_job(TrainingJobName=name)


# Spot capacity, warm pools, faults


COUNTS = """
state, stop = base / "checkpoints" / "state", []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
done = int(state.read_text()) if state.exists() else 0
print("from", done, flush=True)
while done < 30 and not stop:
    time.sleep(0.1)
    done += 1
state.write_text(str(done))
(base / "model" / "done").write_text(str(done))
"""
"""A job of three seconds that saves when it is told to end, and goes on from there."""


def spot(**limits: int) -> dict[str, Any]:
    return {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120} | limits,
    }


def struck(cloud: LocalCloud, name: str) -> dict[str, int]:
    return cloud.status()["faults"][name]


def test_a_spot_job_that_is_interrupted_goes_on_from_its_checkpoints(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # Given two interruptions to come, a second into the training each time
    cloud.configure(fault_interrupt_training_jobs=2, fault_training_after=1.0)
    checkpoints: Any = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/spot"}}

    job = run(sagemaker, COUNTS, **checkpoints, **spot())

    # Then it came to its end in three attempts, none of which began anew
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"done": "30"}
    begun = ["Starting", "Downloading", "Training"]
    states = [each["Status"] for each in job["SecondaryStatusTransitions"]]
    assert states == [*begun, "Interrupted", *begun, "Interrupted", *begun, "Uploading", "Completed"]
    lines = [line for stream in logged(cloud, job["TrainingJobName"]).values() for line in stream]
    starts = sorted(int(line.removeprefix("from ")) for line in lines)
    assert starts[0] == 0
    assert 0 < starts[1] < starts[2] < 30
    assert 0 < job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]
    assert struck(cloud, "fault_interrupt_training_jobs") == {"injected": 2, "left": 0}


def test_only_spot_capacity_is_taken_back_and_only_for_so_long(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    cloud.configure(fault_interrupt_training_jobs=9, fault_training_after=0.2)
    assert run(sagemaker, "time.sleep(0.8)")["TrainingJobStatus"] == "Completed"
    assert struck(cloud, "fault_interrupt_training_jobs")["injected"] == 0

    # A job that waits longer than it may is stopped
    job = run(sagemaker, "time.sleep(60)", **spot(MaxRuntimeInSeconds=3, MaxWaitTimeInSeconds=3))
    assert job["TrainingJobStatus"] == "Stopped"
    assert job["SecondaryStatus"] == "MaxWaitTimeExceeded"


def test_faults_of_the_service_end_jobs_as_the_service_says_it(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    cloud.configure(fault_no_capacity=1, fault_training_after=0.2)
    job = run(sagemaker, "pass")
    assert job["FailureReason"].startswith("CapacityError: Unable to provision requested ML compute")

    cloud.configure(fault_fail_training_jobs=1)
    job = run(sagemaker, "time.sleep(60)")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError: We encountered an internal error")

    cloud.configure(fault_stop_training_jobs=1)
    job = run(sagemaker, "time.sleep(60)")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")

    cloud.configure(fault_throttle_training_jobs=1)
    params = request("pass")
    with pytest.raises(ClientError, match="Rate exceeded") as refused:
        client(cloud, "sagemaker", attempts=1).create_training_job(**params)
    assert refused.value.response["Error"]["Code"] == "ThrottlingException"
    sagemaker.create_training_job(**params)  # the next one is let through
    assert ended(sagemaker, params["TrainingJobName"])["TrainingJobStatus"] == "Completed"

    # and each was counted, and is over
    names = ("no_capacity", "fail_training_jobs", "stop_training_jobs", "throttle_training_jobs")
    assert [struck(cloud, f"fault_{name}") for name in names] == [{"injected": 1, "left": 0}] * 4
    assert run(sagemaker, "pass")["TrainingJobStatus"] == "Completed"


def test_events_are_lost_as_many_as_asked_for(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    heard = listen(cloud)
    cloud.configure(fault_lose_events=2)
    job = run(sagemaker, "pass")
    until(lambda: "Completed" in [each["detail"]["SecondaryStatus"] for each in heard()], "the last event")
    told = [each["detail"]["SecondaryStatus"] for each in heard()]
    lost = [each["Status"] for each in job["SecondaryStatusTransitions"][:2]]
    assert not set(lost) & set(told)
    assert struck(cloud, "fault_lose_events") == {"injected": 2, "left": 0}


def test_the_next_job_of_the_same_kind_takes_over_a_warm_pool(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # Given instances that take their time, and a job that keeps them
    cloud.configure(training_launch=1.5)
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    kept: Any = {"ResourceConfig": resources | {"KeepAlivePeriodInSeconds": 600}}

    def launch(job: dict[str, Any]) -> float:
        first, second = job["SecondaryStatusTransitions"][:2]
        return (second["StartTime"] - first["StartTime"]).total_seconds()

    def pool(job: dict[str, Any]) -> dict[str, Any]:
        return sagemaker.describe_training_job(TrainingJobName=job["TrainingJobName"])["WarmPoolStatus"]

    cold = run(sagemaker, "pass", **kept)
    assert launch(cold) >= 1.5
    assert pool(cold)["Status"] == "Available"

    # When one of another kind comes, then it does not get them; one of the same kind does
    other = run(sagemaker, "pass", ResourceConfig=resources | {"VolumeSizeInGB": 2})
    assert launch(other) >= 1.5
    assert "WarmPoolStatus" not in other
    warm = run(sagemaker, "pass", **kept)
    assert launch(warm) < 1.5
    assert pool(cold)["Status"] == "Reused"
    assert pool(cold)["ReusedByJob"] == warm["TrainingJobName"]

    # And they are listed as such, and go when their time is over
    listed = sagemaker.list_training_jobs(WarmPoolStatusEquals="Available")["TrainingJobSummaries"]
    assert [each["TrainingJobName"] for each in listed] == [warm["TrainingJobName"]]
    over = {"ResourceConfig": {"KeepAlivePeriodInSeconds": 0}}
    sagemaker.update_training_job(TrainingJobName=warm["TrainingJobName"], **over)
    assert pool(warm)["Status"] == "Terminated"
    assert launch(run(sagemaker, "pass", **kept)) >= 1.5
    with pytest.raises(ClientError, match="cannot be used with EnableManagedSpotTraining"):
        sagemaker.create_training_job(**request("pass", **kept, **spot()))


def test_what_a_job_writes_last_is_in_s3_last_and_each_object_is_told(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # Given a bucket that tells a queue of every result
    sqs, name = client(cloud, "sqs"), next(names)
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    told = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
    told["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": f"{name}/"}]}}
    s3.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [told]}
    )
    # When a job writes its result after all that the result speaks of, whatever their names
    script = """
folder = base / "checkpoints" / "request"
(folder / "z").mkdir(parents=True)
for path in ("z/weights", "previews", "adapter", "result.json"):
    (folder / path).write_text("x" * 10)
    time.sleep(0.02)
time.sleep(1)
"""
    cloud.configure(training_checkpoint_interval=0.5)
    checkpoints: Any = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/{name}"}}
    job = run(sagemaker, script, **checkpoints)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")

    # Then the objects came in that order
    keys: list[str] = []

    def receive() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            keys.extend(
                each["s3"]["object"]["key"] for each in json.loads(message["Body"]).get("Records", [])
            )
        return len(keys) >= 4

    until(receive, "the notifications")
    expected = ["z/weights", "previews", "adapter", "result.json"]
    assert keys == [f"{name}/request/{path}" for path in expected]
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={})


def test_a_manifest_of_many_objects_keeps_where_each_lay(sagemaker: Any, s3: Any) -> None:
    paths = [f"user-{number % 7}/model-{number % 3}/{number:02}" for number in range(120)]
    for path in paths:
        s3.put_object(Bucket=BUCKET, Key=f"uploads/{path}", Body=path.encode())
    manifest = [{"prefix": f"s3://{BUCKET}/uploads/"}, *paths[:100]]
    s3.put_object(Bucket=BUCKET, Key="many.manifest", Body=json.dumps(manifest).encode())
    images = channel("images", f"s3://{BUCKET}/many.manifest")
    images["DataSource"]["S3DataSource"]["S3DataType"] = "ManifestFile"
    script = """
folder = base / "input/data/images"
files = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
(base / "model" / "files").write_text(json.dumps(files))
"""
    job = run(sagemaker, script, InputDataConfig=[images])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    files = json.loads(archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"])["files"])
    assert files == {path: path for path in paths[:100]}
