"""Quotas, roles, spot capacity, warm pools and faults of training jobs."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.jobs import BUCKET, GRANTS, caller, client, ended, listen, logged, names, role
from tests.support.training_jobs import archive, channel, request, run, spot
from tests.support.waiting import until


def test_jobs_above_the_quota_are_refused_until_others_end(
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


def test_spot_and_on_demand_instances_have_separate_quotas(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    def refusal(**more: Any) -> str:
        with pytest.raises(ClientError, match="ResourceLimitExceeded") as refused:
            sagemaker.create_training_job(**request("", **more))
        return str(refused.value)

    # given a quota of 0 for on-demand instances
    cloud.configure(training_instances=0, training_spot_instances=1)
    # then an on-demand job is refused with the name of its quota, and a spot job is not
    assert "'ml.m5.large for training job usage' is 0 Instances" in refusal()
    first = request("time.sleep(300)", **spot())
    sagemaker.create_training_job(**first)
    assert (
        "'ml.m5.large for spot training job usage' is 1 Instances, with current utilization of 1"
        in refusal(**spot())
    )
    # and when the quotas are exchanged while the spot job runs, another spot job is refused and an on-demand
    # job completes
    cloud.configure(training_instances=1, training_spot_instances=0)
    assert "'ml.m5.large for spot training job usage' is 0 Instances" in refusal(**spot())
    assert run(sagemaker, "")["TrainingJobStatus"] == "Completed"
    sagemaker.stop_training_job(TrainingJobName=first["TrainingJobName"])
    ended(sagemaker, first["TrainingJobName"])


def test_warm_pool_needs_a_quota_and_counts_as_on_demand(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    kept: Any = {"ResourceConfig": resources | {"KeepAlivePeriodInSeconds": 600}}

    def pool(job: dict[str, Any]) -> str:
        return sagemaker.describe_training_job(TrainingJobName=job["TrainingJobName"])["WarmPoolStatus"][
            "Status"
        ]

    # given a quota of 0 for warm pools, then the job runs and leaves no pool
    cloud.configure(training_instances=1, warm_pool_instances=0)
    assert pool(run(sagemaker, "", **kept)) == "Terminated"
    # when the quota of warm pools is 1, then the instance of an ended job stays in a warm pool. The instance
    # counts towards the on-demand quota of 1, so only a job that can use it starts
    cloud.configure(warm_pool_instances=1)
    first = run(sagemaker, "", **kept)
    assert pool(first) == "Available"
    with pytest.raises(ClientError, match="is 1 Instances, with current utilization of 1 Instances"):
        sagemaker.create_training_job(**request("", ResourceConfig=resources | {"VolumeSizeInGB": 2}))
    second = run(sagemaker, "", **kept)
    assert (pool(first), pool(second)) == ("Reused", "Available")
    over = {"ResourceConfig": {"KeepAlivePeriodInSeconds": 0}}
    sagemaker.update_training_job(TrainingJobName=second["TrainingJobName"], **over)


def test_calls_above_the_rate_are_throttled_and_retried_by_sdks(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    cloud.configure(create_training_job_burst=2, create_training_job_per_second=0.5)
    hasty = client(cloud, "sagemaker", attempts=1)
    jobs = [request("") for _ in range(4)]
    for job in jobs[:2]:
        hasty.create_training_job(**job)
    with pytest.raises(ClientError) as throttled:
        hasty.create_training_job(**jobs[2])
    assert throttled.value.response["Error"] == {"Code": "ThrottlingException", "Message": "Rate exceeded"}
    assert throttled.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    # Then the SDK's retries succeed
    answer = sagemaker.create_training_job(**jobs[3])
    assert answer["ResponseMetadata"]["RetryAttempts"] >= 1
    for job in (*jobs[:2], jobs[3]):
        ended(sagemaker, job["TrainingJobName"])


def test_job_name_is_never_reused_and_unknown_is_not_found(sagemaker: Any, s3: Any) -> None:
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


def test_unsupported_and_invalid_requests_are_refused_with_the_reason(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    pipe = channel("train", f"s3://{BUCKET}/x") | {"InputMode": "Pipe"}
    disks = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    encrypted = disks | {"VolumeKmsKeyId": "1234abcd-12ab-34cd-56ef-1234567890ab"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"InputDataConfig": [pipe]}, "channel train in Pipe mode"),
        (
            {"algorithm": {"MetricDefinitions": [{"Name": "m", "Regex": "("}]}},
            "regex of metric m is not valid",
        ),
        ({"OutputDataConfig": {"S3OutputPath": "https://x/y"}}, "https://x/y is not an S3 address"),
        ({"ResourceConfig": {"VolumeSizeInGB": 1}}, "InstanceCount"),
        ({"ResourceConfig": encrypted}, "VolumeKmsKeyId can't be requested for instance type ml.g5.xlarge"),
    ]
    for members, said in cases:
        with pytest.raises(ClientError, match=said):
            sagemaker.create_training_job(**request("", **members))
    with pytest.raises(ClientError, match="sagemaker:ListAutoMLJobs is not implemented"):
        client(cloud, "sagemaker", attempts=1).list_auto_ml_jobs()
    assert sagemaker.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"] == []


def test_job_without_a_needed_permission_in_its_role_fails(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # Given enforced IAM policies, and training data in S3
    s3.put_object(Bucket=BUCKET, Key="granted/one", Body=b"1")
    data: dict[str, Any] = {"InputDataConfig": [channel("train", f"s3://{BUCKET}/granted")]}
    roles = {without: role(cloud, without) for without in ("", *GRANTS)}
    cloud.enforce_iam(True)
    # When no grant is missing, the job completes, and its container has the role's permissions
    script = """
import urllib.request
print(os.environ["AWS_ACCESS_KEY_ID"][:4])
"""
    job = run(sagemaker, script, RoleArn=roles[""], **data)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert list(logged(cloud, job["TrainingJobName"]).values()) == [["ASIA"]]
    # When the role may not read, or not write, the job fails and names the missing permission
    for without, action in (("read", "s3:ListBucket"), ("write", "s3:PutObject")):
        job = run(sagemaker, "", RoleArn=roles[without], **data)
        assert job["TrainingJobStatus"] == "Failed"
        assert "AccessDenied" in job["FailureReason"]
        assert action in job["FailureReason"]
    # When the role may not pull the image, the job is not created
    with pytest.raises(ClientError, match=r"ValidationException.*not authorized to perform: ecr:"):
        sagemaker.create_training_job(**request("", RoleArn=roles["pull"]))
    # When the role may not write logs, the job completes without logs
    job = run(sagemaker, "print('unheard')", RoleArn=roles["logs"])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert logged(cloud, job["TrainingJobName"]) == {}
    # When SageMaker may not assume the role, the job is not created
    with pytest.raises(ClientError, match="Could not assume role"):
        sagemaker.create_training_job(**request("", RoleArn="arn:aws:iam::000000000000:role/nobodys"))


def test_policies_limit_the_jobs_and_roles_of_a_caller(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    # Given a caller who may start jobs whose names have a prefix, and pass one role to SageMaker
    own, other = role(cloud), role(cloud)
    jobs = f"arn:aws:sagemaker:{cloud.region}:000000000000:training-job/mine-*"
    passing = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    person = caller(
        cloud,
        {"Action": ["sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob"], "Resource": jobs},
        {"Action": "iam:PassRole", "Resource": own, "Condition": passing},
    )
    cloud.enforce_iam(True)
    # When the request is within these grants, then the job runs
    name = f"mine-{next(names)}"
    person.create_training_job(**request("", TrainingJobName=name, RoleArn=own))
    assert ended(person, name)["TrainingJobStatus"] == "Completed"
    # When the request has another name, another role, tags or another operation, it is denied, and the error
    # names the action
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
"""Script of a job of three seconds that saves a checkpoint on SIGTERM and resumes from it."""


def struck(cloud: LocalCloud, name: str) -> dict[str, int]:
    return cloud.status()["faults"][name]


def test_interrupted_spot_job_resumes_from_its_checkpoints(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # Given two injected interruptions, each a second after the start of training
    cloud.configure(fault_interrupt_training_jobs=2, fault_training_after=1.0)
    checkpoints: Any = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/spot"}}

    job = run(sagemaker, COUNTS, **checkpoints, **spot())

    # Then the job completes in three attempts, and only the first attempt starts from the beginning
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


def test_interruptions_hit_spot_jobs_only_within_their_maximum_wait(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    cloud.configure(fault_interrupt_training_jobs=9, fault_training_after=0.2)
    assert run(sagemaker, "time.sleep(0.8)")["TrainingJobStatus"] == "Completed"
    assert struck(cloud, "fault_interrupt_training_jobs")["injected"] == 0

    # A job that exceeds its maximum wait time is stopped
    job = run(sagemaker, "time.sleep(60)", **spot(MaxRuntimeInSeconds=3, MaxWaitTimeInSeconds=3))
    assert job["TrainingJobStatus"] == "Stopped"
    assert job["SecondaryStatus"] == "MaxWaitTimeExceeded"


def test_injected_faults_end_jobs_with_the_services_messages(
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
    sagemaker.create_training_job(**params)  # the next call is accepted
    assert ended(sagemaker, params["TrainingJobName"])["TrainingJobStatus"] == "Completed"

    # and each injected fault was counted, and no fault is left
    names = ("no_capacity", "fail_training_jobs", "stop_training_jobs", "throttle_training_jobs")
    assert [struck(cloud, f"fault_{name}") for name in names] == [{"injected": 1, "left": 0}] * 4
    assert run(sagemaker, "pass")["TrainingJobStatus"] == "Completed"


def test_injected_fault_loses_the_given_number_of_events(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    heard = listen(cloud)
    cloud.configure(fault_lose_events=2)
    job = run(sagemaker, "pass")
    until(lambda: "Completed" in [each["detail"]["SecondaryStatus"] for each in heard()], "the last event")
    told = [each["detail"]["SecondaryStatus"] for each in heard()]
    lost = [each["Status"] for each in job["SecondaryStatusTransitions"][:2]]
    assert not set(lost) & set(told)
    assert struck(cloud, "fault_lose_events") == {"injected": 2, "left": 0}


def test_warm_pool_is_reused_by_the_next_matching_job(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    # Given slow instance starts, and a job that keeps its instances
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

    # Then a job with another configuration does not get the kept instances, and a job with the same one does
    other = run(sagemaker, "pass", ResourceConfig=resources | {"VolumeSizeInGB": 2})
    assert launch(other) >= 1.5
    assert "WarmPoolStatus" not in other
    warm = run(sagemaker, "pass", **kept)
    assert launch(warm) < 1.5
    assert pool(cold)["Status"] == "Reused"
    assert pool(cold)["ReusedByJob"] == warm["TrainingJobName"]

    # And the remaining pool is listed, and ends when its keep-alive period is set to 0
    listed = sagemaker.list_training_jobs(WarmPoolStatusEquals="Available")["TrainingJobSummaries"]
    assert [each["TrainingJobName"] for each in listed] == [warm["TrainingJobName"]]
    over = {"ResourceConfig": {"KeepAlivePeriodInSeconds": 0}}
    sagemaker.update_training_job(TrainingJobName=warm["TrainingJobName"], **over)
    assert pool(warm)["Status"] == "Terminated"
    assert launch(run(sagemaker, "pass", **kept)) >= 1.5
    with pytest.raises(ClientError, match="cannot be used with EnableManagedSpotTraining"):
        sagemaker.create_training_job(**request("pass", **kept, **spot()))


def test_checkpoint_files_are_uploaded_in_order_with_a_notification_each(
    cloud: LocalCloud, sagemaker: Any, s3: Any
) -> None:
    # Given a bucket that notifies a queue of every object
    sqs, name = client(cloud, "sqs"), next(names)
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    told = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
    told["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": f"{name}/"}]}}
    s3.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [told]}
    )
    # When a job writes files in an order other than alphabetical, and a result file with their list last
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

    # Then the notifications have the order of the writes
    keys: list[str] = []

    def receive() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            keys.extend(
                each["s3"]["object"]["key"] for each in json.loads(message["Body"]).get("Records", [])
            )
        return len(keys) >= 4

    until(receive, "the arrival of all notifications")
    expected = ["z/weights", "previews", "adapter", "result.json"]
    assert keys == [f"{name}/request/{path}" for path in expected]
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={})


def test_objects_of_a_manifest_keep_their_relative_paths(sagemaker: Any, s3: Any) -> None:
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
