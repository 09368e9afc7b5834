"""Processing jobs as a caller of SageMaker sees them: real processes, real S3, real logs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.jobs import listen, logged, names, object_text
from tests.support.processes import processes
from tests.support.processing_jobs import (
    BUCKET,
    CODE,
    IMAGE,
    ended,
    objects,
    output,
    request,
    run,
    source,
)
from tests.support.waiting import until


def test_job_reads_input_and_leaves_output_message_logs_and_events(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # given data in S3, a script that prints its environment, and a listener on the event bus
    heard = listen(cloud, "Processing")
    s3.put_object(Bucket=BUCKET, Key="data/a/one.csv", Body=b"1,2,3")
    script = """
print((processing / "data" / "a" / "one.csv").read_text(), os.environ["COLOUR"], sys.argv[1:])
print("to standard error", file=sys.stderr)
(out / "deep").mkdir()
(out / "deep" / "config.json").write_text((base / "config" / "processingjobconfig.json").read_text())
(base / "output" / "message").write_text("three rows")
"""
    application = {
        "ImageUri": IMAGE,
        "ContainerEntrypoint": ["python", f"{CODE}/run.py"],
        "ContainerArguments": ["--rows", "3"],
    }
    # when a job processes the data
    job = run(
        sagemaker,
        s3,
        script,
        AppSpecification=application,
        inputs=[source("data", f"s3://{BUCKET}/data")],
        environment={"COLOUR": "blue"},
        Tags=[{"Key": "team", "Value": "a"}],
    )
    name = job["ProcessingJobName"]
    # then the job's description has its status, times and message
    assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["ExitMessage"] == "three rows"
    assert "FailureReason" not in job
    assert job["CreationTime"] <= job["ProcessingStartTime"] < job["ProcessingEndTime"]
    # and the container got the configuration file that SageMaker documents
    config = json.loads(objects(s3, f"{name}/")["deep/config.json"])
    assert (config["ProcessingJobName"], config["ProcessingJobArn"]) == (name, job["ProcessingJobArn"])
    assert config["AppSpecification"] == application
    assert config["ProcessingInputs"][1] == {
        "InputName": "data",
        "S3Input": {
            "S3Uri": f"s3://{BUCKET}/data",
            "LocalPath": "/opt/ml/processing/data",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
            "S3CompressionType": "None",
            "S3DownloadMode": "StartOfJob",
        },
    }
    assert config["ProcessingOutputConfig"]["KmsKeyId"] is None
    assert config["ProcessingResources"]["ClusterConfig"] == {
        "InstanceType": "ml.m5.large",
        "InstanceCount": 1,
        "VolumeSizeInGB": 1,
        "VolumeKmsKeyId": None,
    }
    # and the script's lines are in one log stream, that of the instance
    ((stream, lines),) = logged(cloud, name, "Processing").items()
    assert stream.startswith(f"{name}/algo-1-")
    assert lines == ["1,2,3 blue ['--rows', '3']", "to standard error"]
    # and the event bus got an event of each status of the job
    until(
        lambda: "Completed" in [each["detail"]["ProcessingJobStatus"] for each in heard()],
        "the event of the job's end",
    )
    first, last = [each["detail"] for each in heard()]
    assert first["ProcessingJobStatus"] == "InProgress"
    assert last["ProcessingEndTime"] == round(job["ProcessingEndTime"].timestamp() * 1000)
    assert (last["ExitMessage"], last["Tags"]) == ("three rows", {"team": "a"})
    assert {each["resources"][0] for each in heard()} == {job["ProcessingJobArn"]}


def test_two_instances_share_sharded_input_and_one_output(sagemaker: Any, s3: Any) -> None:
    # given five objects that are sharded for one input and replicated for another, and an input with a
    # manifest of two objects
    for number in range(5):
        s3.put_object(Bucket=BUCKET, Key=f"parts/part-{number}", Body=b"x")
    manifest = [{"prefix": f"s3://{BUCKET}/parts/"}, "part-1", "part-3"]
    s3.put_object(Bucket=BUCKET, Key="manifest", Body=json.dumps(manifest).encode())
    inputs = [
        source("shard", f"s3://{BUCKET}/parts/", S3DataDistributionType="ShardedByS3Key"),
        source("whole", f"s3://{BUCKET}/parts/part"),
        source("listed", f"s3://{BUCKET}/manifest", S3DataType="ManifestFile"),
    ]
    # when two instances list their inputs
    script = """
seen = {name: sorted(file.name for file in (processing / name).iterdir())
        for name in ("shard", "whole", "listed")}
(out / f"{hosts.index(host)}.json").write_text(json.dumps(seen))
(base / "output" / "message").write_text(f"[{hosts.index(host)}]")
assert len(hosts) == 2 and socket.gethostbyname(hosts[1 - hosts.index(host)])
"""
    job = run(sagemaker, s3, script, 2, inputs=inputs)
    # then each instance got its shard and all replicated objects, and both wrote to the same prefix
    assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
    found = objects(s3, f"{job['ProcessingJobName']}/")
    first, second = (json.loads(found[f"{number}.json"]) for number in (0, 1))
    assert (first["shard"], second["shard"]) == (["part-0", "part-2", "part-4"], ["part-1", "part-3"])
    assert first["whole"] == second["whole"] == [f"part-{number}" for number in range(5)]
    assert first["listed"] == second["listed"] == ["part-1", "part-3"]
    # and the messages of both instances are concatenated
    assert job["ExitMessage"] == "[0][1]"


def test_failed_container_gives_reason_and_message_without_output(sagemaker: Any, s3: Any) -> None:
    # given two hosts: the second fails, and the first does not end
    script = """
(out / "half").write_text("x")
if host == hosts[0]:
    time.sleep(300)
(base / "output" / "message").write_text("Column PRICE is missing. " + "é" * 2000)
sys.exit(3)
"""
    job = run(sagemaker, s3, script, 2)
    # then the failure reason ends with the exit code, and the message is cut to one KB
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: Column PRICE is missing. éé")
    assert job["FailureReason"].endswith("é, exit code: 3")
    assert job["ExitMessage"].startswith("Column PRICE is missing. éé")
    assert len(job["ExitMessage"].encode()) in (1023, 1024)
    # and output of the mode EndOfJob is not uploaded
    assert objects(s3, f"{job['ProcessingJobName']}/") == {}


def test_message_that_is_no_utf8_fails_the_job(sagemaker: Any, s3: Any) -> None:
    job = run(sagemaker, s3, '(base / "output" / "message").write_bytes(bytes([0xFF, 0xFE]))')
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: The exit message in /opt/ml/output/message must be")


def test_image_runs_with_its_own_entry_point(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    job = run(sagemaker, s3, "", AppSpecification={"ImageUri": IMAGE}, outputs=[], StoppingCondition=None)
    assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
    assert list(logged(cloud, job["ProcessingJobName"], "Processing").values()) == [["the own entry point"]]
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 86_400}


def test_continuous_output_is_uploaded_while_the_job_runs(sagemaker: Any, s3: Any) -> None:
    # given a job that writes to a continuous and an EndOfJob output, waits until it is stopped and writes
    # again
    name = f"continuous-{next(names)}"
    outputs = [
        output("Continuous", "now", S3Uri=f"s3://{BUCKET}/{name}/now/"),
        output("EndOfJob", "late", S3Uri=f"s3://{BUCKET}/{name}/late"),
    ]
    script = """
def leave(*_):
    (processing / "now" / "last").write_text("2")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
os.symlink(processing / "now" / "sub" / "first", processing / "now" / "link")
(processing / "now" / "sub").mkdir()
(processing / "now" / "sub" / "first").write_text("1")
(processing / "late" / "rows").write_text("1")
while True:
    time.sleep(1)
"""
    sagemaker.create_processing_job(**request(s3, script, ProcessingJobName=name, outputs=outputs))
    # when the job runs, then the first file is in S3 before the job ends
    until(lambda: object_text(s3, f"{name}/now/sub/first", BUCKET) == "1", "the first upload")
    assert sagemaker.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"] == "InProgress"
    # when the job is stopped
    sagemaker.stop_processing_job(ProcessingJobName=name)
    job = ended(sagemaker, name)
    # then the last file is uploaded too, links are not followed, and the EndOfJob output is not uploaded
    assert job["ProcessingJobStatus"] == "Stopped"
    assert objects(s3, f"{name}/") == {"now/sub/first": "1", "now/last": "2"}


def test_stopped_job_that_ignores_sigterm_is_killed(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    # given a job whose process and child process both ignore SIGTERM
    script = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
import subprocess
subprocess.Popen(["/bin/sleep", "300"])
(base / "output" / "message").write_text("I stay")
while True:
    time.sleep(1)
"""
    cloud.configure(processing_stop_grace=0.5)
    params = request(s3, script)
    name = params["ProcessingJobName"]
    sagemaker.create_processing_job(**params)
    until(lambda: len(processes("TEST_JOB", name)) == 2, "the start of both processes")
    # when the job is stopped, then its status is Stopping, and after the grace period Stopped
    sagemaker.stop_processing_job(ProcessingJobName=name)
    assert sagemaker.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"] == "Stopping"
    job = ended(sagemaker, name)
    assert (job["ProcessingJobStatus"], job["ExitMessage"]) == ("Stopped", "I stay")
    assert not processes("TEST_JOB", name)
    # and the stopped job cannot be stopped again
    with pytest.raises(ClientError, match=r"ValidationException.*processing job is in status Stopped"):
        sagemaker.stop_processing_job(ProcessingJobName=name)


def test_job_past_its_runtime_is_stopped(sagemaker: Any, s3: Any) -> None:
    job = run(sagemaker, s3, "time.sleep(300)", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert job["ProcessingJobStatus"] == "Stopped"
    assert (job["ProcessingEndTime"] - job["ProcessingStartTime"]).total_seconds() >= 1


def test_isolated_job_has_neither_network_nor_credentials(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    # given containers in Linux namespaces, and a script that tries to reach the cloud
    cloud.configure(container_isolation="namespaces")
    script = """
try:
    socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=5).close()
    reached = True
except OSError:
    reached = False
keys = sorted(name for name in os.environ if name.startswith("AWS_") and name != "AWS_REGION")
(out / "seen").write_text(json.dumps([reached, bool(keys)]))
"""
    port = cloud.endpoint_url.rpartition(":")[2]
    # when the job runs, then the script reaches the cloud and has keys of the job's role, unless the job is
    # isolated
    for isolated, seen in ((False, [True, True]), (True, [False, False])):
        network = {"EnableNetworkIsolation": isolated}
        job = run(sagemaker, s3, script, NetworkConfig=network, environment={"PORT": port})
        assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
        assert json.loads(objects(s3, f"{job['ProcessingJobName']}/")["seen"]) == seen


def test_application_manages_its_own_input_and_output(sagemaker: Any, s3: Any) -> None:
    # given an input and an output that the application manages
    own = {"S3Uri": f"s3://{BUCKET}/nothing-here", "S3DataType": "S3Prefix"}
    place = {"S3Uri": "s3://no-such-bucket-anywhere/x", "S3UploadMode": "EndOfJob"}
    job = run(
        sagemaker,
        s3,
        "assert not list(processing.glob('nothing*'))",
        inputs=[{"InputName": "own", "AppManaged": True, "S3Input": own}],
        outputs=[{"OutputName": "own", "AppManaged": True, "S3Output": place}],
    )
    # then SageMaker neither downloads the input nor uploads the output
    assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")


def test_job_that_ends_can_be_deleted_and_its_name_reused(sagemaker: Any, s3: Any) -> None:
    # given a running job with a tag
    params = request(s3, "time.sleep(300)", Tags=[{"Key": "team", "Value": "a"}])
    name = params["ProcessingJobName"]
    arn = sagemaker.create_processing_job(**params)["ProcessingJobArn"]
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "a"}]
    # when the running job is deleted, or its name is used for another job, then the call is refused
    for call in (
        lambda: sagemaker.delete_processing_job(ProcessingJobName=name),
        lambda: sagemaker.create_processing_job(**params),
    ):
        with pytest.raises(ClientError, match="ResourceInUse"):
            call()
    sagemaker.stop_processing_job(ProcessingJobName=name)
    ended(sagemaker, name)
    # and after its end, the job can be deleted, and its name can be reused
    sagemaker.delete_processing_job(ProcessingJobName=name)
    for operation in ("describe", "stop", "delete"):
        with pytest.raises(ClientError, match=r"ValidationException.*Could not find requested job"):
            getattr(sagemaker, f"{operation}_processing_job")(ProcessingJobName=name)
    assert run(sagemaker, s3, "", ProcessingJobName=name)["ProcessingJobStatus"] == "Completed"
    listed = sagemaker.list_processing_jobs(NameContains=name, StatusEquals="Completed")
    assert [each["ProcessingJobName"] for each in listed["ProcessingJobSummaries"]] == [name]


def test_killed_server_leaves_its_jobs_failed_and_no_processes(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # given a running job with two instances
    params = request(s3, "time.sleep(300)", 2)
    name = params["ProcessingJobName"]
    sagemaker.create_processing_job(**params)
    until(lambda: len(processes("TEST_JOB", name)) == 2, "the start of the job")
    # when the server is killed, then the processes of the job end
    cloud.kill()
    until(lambda: not processes("TEST_JOB", name), "the end of the job's processes")
    # and when the server is restarted, the job has failed with a reason, and its files are deleted
    cloud.start()
    job = sagemaker.describe_processing_job(ProcessingJobName=name)
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"].endswith("The local cloud ended while the processing job ran.")
    assert list((cloud.home / "instances").glob("processing/*")) == []
