"""Training jobs as a caller of SageMaker sees them: real processes, real S3, real logs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.jobs import BUCKET, client, ended, listen, logged, names, object_text
from tests.support.processes import processes
from tests.support.training_jobs import archive, channel, in_training, request, run
from tests.support.waiting import until


def test_job_reads_a_channel_and_writes_results_and_logs(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    # Given data in S3, a script that prints the values of a metric, and a listener on the event bus
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
    # When the job runs
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
    # Then the job's description has the status, the times, and the status transitions in order
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    transitions = job["SecondaryStatusTransitions"]
    assert [each["Status"] for each in transitions] == [
        "Starting", "Downloading", "Training", "Uploading", "Completed"
    ]  # fmt: skip
    assert all(each["StartTime"] <= each["EndTime"] for each in transitions)
    assert job["CreationTime"] <= job["TrainingStartTime"] < job["TrainingEndTime"]
    assert job["BillableTimeInSeconds"] >= 1
    # and the description has the members that SDKs expect in every response
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "KmsKeyId": "", "CompressionType": "GZIP"}
    assert job["OutputDataConfig"] == output
    (read,) = job["InputDataConfig"]
    assert (read["CompressionType"], read["RecordWrapperType"]) == ("None", "None")
    # and the model and the output are in S3
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/out/{name}/output/model.tar.gz"
    assert archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"weights": "w"}
    seen = json.loads(archive(s3, f"s3://{BUCKET}/out/{name}/output/output.tar.gz")["summary"])
    assert {"TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "AWS_REGION", "AWS_ENDPOINT_URL"} <= set(seen)
    # and the script's output is in the log stream of the instance
    ((stream, lines),) = logged(cloud, name).items()
    assert stream.startswith(f"{name}/algo-1-")
    assert lines == ["1,2,3 blue", "validation:rmse=0.5", "validation:rmse=0.25", "to standard error"]
    # and the job's description has the last value of the metric, and CloudWatch has all values
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
    # and the event bus got an event for each status of the job
    until(lambda: "Completed" in [each["detail"]["SecondaryStatus"] for each in heard()], "the last event")
    events = sorted(heard(), key=lambda each: each["detail"]["LastModifiedTime"])
    details = [each["detail"] for each in events]
    assert [detail["SecondaryStatus"] for detail in details] == [each["Status"] for each in transitions]
    assert details[-1]["TrainingJobStatus"] == "Completed"
    assert details[-1]["Tags"] == {"team": "a"}
    assert {each["resources"][0] for each in events} == {job["TrainingJobArn"]}


def test_two_instances_connect_by_host_name_on_the_same_port(sagemaker: Any, s3: Any) -> None:
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
    # When two instances run the script
    job = run(sagemaker, script, instances=2)
    # Then the first host received the name of the second one, and the model archive has the files of both
    # hosts
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


def test_sharded_channel_is_split_and_replicated_channel_copied_to_hosts(sagemaker: Any, s3: Any) -> None:
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


def test_checkpoints_are_uploaded_while_training_and_restored_by_another_job(sagemaker: Any, s3: Any) -> None:
    # Given a job that writes a count to a checkpoint and runs until it is stopped
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
    # When the job runs, then its checkpoint is in S3 before the job ends
    until(lambda: object_text(s3, key) == "10", "the upload of the checkpoint")
    assert in_training(sagemaker, params["TrainingJobName"])
    sagemaker.stop_training_job(TrainingJobName=params["TrainingJobName"])
    assert ended(sagemaker, params["TrainingJobName"])["TrainingJobStatus"] == "Stopped"
    # and a second job resumes from that checkpoint, and stores its own checkpoint at the end
    job = run(sagemaker, script, CheckpointConfig=checkpoints)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"started_from": "10"}
    assert object_text(s3, key) == "20"


def test_job_past_its_maximum_runtime_may_save_its_model(sagemaker: Any, s3: Any) -> None:
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


def test_stopped_job_that_ignores_sigterm_is_killed_with_children(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # given a job whose process and child process both ignore SIGTERM
    script = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
import subprocess
child = subprocess.Popen(["/bin/sleep", "300"])
while True:
    time.sleep(1)
"""
    params = request(script)
    name = params["TrainingJobName"]
    sagemaker.create_training_job(**params)
    until(lambda: len(processes("TRAINING_JOB_NAME", name)) == 2, "the start of both processes")
    # When the job is stopped
    sagemaker.stop_training_job(TrainingJobName=name)
    # Then the job's status is Stopping, and after the grace period Stopped, and no process is left
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Stopping"
    job = ended(sagemaker, name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert [each["Status"] for each in job["SecondaryStatusTransitions"]][-3:] == [
        "Stopping", "Uploading", "Stopped"
    ]  # fmt: skip
    assert not processes("TRAINING_JOB_NAME", name)
    # and the stopped job cannot be stopped again
    with pytest.raises(ClientError, match=r"ValidationException.*is in status Stopped"):
        sagemaker.stop_training_job(TrainingJobName=name)


def test_failure_of_one_instance_fails_the_job_with_its_message(sagemaker: Any, s3: Any) -> None:
    # Given two hosts: the second fails, and the first does not end
    script = """
(base / "output" / "data" / "rows").write_text("read")
(base / "model" / "half").write_text("")
if host == hosts[0]:
    while True:
        time.sleep(1)
(base / "output" / "failure").write_text("Table HOUSES has no column PRICE. " + "x" * 2000)
sys.exit(3)
"""
    # When the job runs, then its failure reason is the second host's message, truncated, with the exit code
    job = run(sagemaker, script, instances=2)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert job["FailureReason"].startswith("AlgorithmError: Table HOUSES has no column PRICE. xxx")
    assert job["FailureReason"].endswith("x, exit code: 3")
    assert len(job["FailureReason"]) == 1024
    # and the output is stored, but no partial model
    assert "rows" in archive(s3, f"s3://{BUCKET}/out/{job['TrainingJobName']}/output/output.tar.gz")
    assert (
        s3.list_objects_v2(Bucket=BUCKET, Prefix=f"out/{job['TrainingJobName']}/output/model")["KeyCount"]
        == 0
    )


def test_killed_container_fails_the_job_with_exit_code_137(sagemaker: Any, s3: Any) -> None:
    job = run(sagemaker, "os.kill(os.getpid(), signal.SIGKILL)")
    assert job["FailureReason"] == "AlgorithmError: , exit code: 137"


def test_empty_channel_fails_the_job_and_is_named(sagemaker: Any, s3: Any) -> None:
    uri = f"s3://{BUCKET}/nothing/here/"
    job = run(sagemaker, "", InputDataConfig=[channel("train", uri)])
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(f'ClientError: No S3 objects found under S3 URL "{uri}"')
    assert [each["Status"] for each in job["SecondaryStatusTransitions"]] == [
        "Starting", "Downloading", "Failed"
    ]  # fmt: skip


def test_output_that_cannot_be_stored_fails_the_job(sagemaker: Any, s3: Any) -> None:
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
        except ClientError:  # the log group does not exist yet
            return False

    until(first_line, "the first line in the log")
    assert in_training(sagemaker, name)


def test_job_overrides_the_entry_point_and_its_arguments(sagemaker: Any, s3: Any) -> None:
    code = "import sys, pathlib; pathlib.Path(sys.argv[1], 'm').write_text(str(sys.argv[2:]))"
    algorithm = {
        "ContainerEntrypoint": ["python", "-c", code],
        "ContainerArguments": ["/opt/ml/model", "a b"],
    }
    job = run(sagemaker, "", algorithm=algorithm)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"m": "['a b']"}


def test_channels_of_instance_groups_and_manifests_with_uncompressed_model(sagemaker: Any, s3: Any) -> None:
    # Given two instance groups, a channel for one of them, and another channel whose objects a manifest lists
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
    # When a job with an uncompressed model runs
    job = run(
        sagemaker,
        script,
        InputDataConfig=[listed, grouped],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"},
        ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1},
    )
    # Then each instance has the channels of its group
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    place = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert place == f"s3://{BUCKET}/out/{job['TrainingJobName']}/output/model/"
    key = place.removeprefix(f"s3://{BUCKET}/")
    both = {"listed": ["a.csv", "c.csv"]}
    assert json.loads(object_text(s3, f"{key}readers") or "") == both | {"grouped": ["b.csv"]}
    assert json.loads(object_text(s3, f"{key}others") or "") == both


def test_isolated_container_gets_no_credentials(sagemaker: Any, s3: Any) -> None:
    script = "(base / 'model' / 'names').write_text(' '.join(os.environ))"
    job = run(sagemaker, script, EnableNetworkIsolation=True)
    names = archive(s3, job["ModelArtifacts"]["S3ModelArtifacts"])["names"].split()
    assert "TRAINING_JOB_NAME" in names
    assert not [name for name in names if name.startswith("AWS_") and name != "AWS_REGION"]


def test_killed_server_leaves_its_job_failed_and_no_processes(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # Given a running job with a checkpoint
    script = """
import subprocess
child = subprocess.Popen(["/bin/sleep", "300"])
pathlib.Path(os.environ["TMPDIR"], "scratch").write_text("")
(base / "checkpoints" / "count").write_text("10")
time.sleep(300)
"""
    checkpoints = {"S3Uri": f"s3://{BUCKET}/checkpoints/{next(names)}"}
    key = checkpoints["S3Uri"].removeprefix(f"s3://{BUCKET}/") + "/count"
    params = request(script, CheckpointConfig=checkpoints)
    sagemaker.create_training_job(**params)
    until(lambda: object_text(s3, key) == "10", "the upload of the checkpoint")
    name = params["TrainingJobName"]
    until(lambda: len(processes("TRAINING_JOB_NAME", name)) == 2, "the job and its child process")
    # When the server is killed
    cloud.kill()
    # Then the processes of the job end
    until(lambda: not processes("TRAINING_JOB_NAME", name), "the end of the job's processes")
    # and when the server is restarted, the job has failed with a reason, and its files are deleted
    cloud.start()
    job = sagemaker.describe_training_job(TrainingJobName=params["TrainingJobName"])
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert "local cloud ended" in job["FailureReason"]
    assert list((cloud.home / "instances").glob("training/*")) == []
    # and a job that resumes from the checkpoint completes
    again = request(
        "assert (base / 'checkpoints' / 'count').read_text() == '10'", CheckpointConfig=checkpoints
    )
    sagemaker.create_training_job(**again)
    assert ended(sagemaker, again["TrainingJobName"])["TrainingJobStatus"] == "Completed"


def test_running_job_fails_with_the_reason_when_the_cloud_stops(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    params = request("time.sleep(300)")
    sagemaker.create_training_job(**params)
    until(lambda: in_training(sagemaker, params["TrainingJobName"]), "the start of the job")
    cloud.stop()
    assert list((cloud.home / "instances").glob("training/*")) == []
    cloud.start()
    job = sagemaker.describe_training_job(TrainingJobName=params["TrainingJobName"])
    assert job["TrainingJobStatus"] == "Failed"
    assert "local cloud ended" in job["FailureReason"]
