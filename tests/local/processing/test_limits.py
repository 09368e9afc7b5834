"""Quotas, roles, callers and refused requests of processing jobs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.jobs import GRANTS, caller, client, logged, names, role
from tests.support.processing_jobs import BUCKET, ended, objects, output, request, run, source


def test_jobs_past_a_quota_are_refused_by_its_name(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    # given a quota of two instances, and a job that uses both
    cloud.configure(processing_instances=2, processing_instances_per_job=2, training_instances=0)
    first = request(s3, "time.sleep(300)", 2)
    sagemaker.create_processing_job(**first)
    # then another job is refused, and also a job that needs more instances than the quota
    with pytest.raises(ClientError, match="ResourceLimitExceeded") as refused:
        sagemaker.create_processing_job(**request(s3, ""))
    assert (
        "'ml.m5.large for processing job usage' is 2 Instances, with current utilization of 2 Instances and "
        "a request delta of 1 Instances"
    ) in str(refused.value)
    with pytest.raises(ClientError, match="'Maximum number of instances per processing job' is 2"):
        sagemaker.create_processing_job(**request(s3, "", 3))
    # and when the first job has ended, another job can start
    sagemaker.stop_processing_job(ProcessingJobName=first["ProcessingJobName"])
    ended(sagemaker, first["ProcessingJobName"])
    assert run(sagemaker, s3, "")["ProcessingJobStatus"] == "Completed"


def test_job_has_the_grants_of_its_role(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    # given enforced IAM, and roles that each lack one permission
    roles = {without: role(cloud, without) for without in ("", *GRANTS)}
    requests = {without: request(s3, "print('heard')", RoleArn=arn) for without, arn in roles.items()}
    cloud.enforce_iam(True)
    for without in ("", "read", "write", "logs"):
        sagemaker.create_processing_job(**requests[without])
    found = {
        without: ended(sagemaker, requests[without]["ProcessingJobName"])
        for without in ("", "read", "write", "logs")
    }
    # then with all grants, or without the grant to write logs, a job completes
    assert found[""]["ProcessingJobStatus"] == "Completed", found[""].get("FailureReason")
    assert found["logs"]["ProcessingJobStatus"] == "Completed", found["logs"].get("FailureReason")
    assert list(logged(cloud, found[""]["ProcessingJobName"], "Processing").values()) == [["heard"]]
    assert logged(cloud, found["logs"]["ProcessingJobName"], "Processing") == {}
    # and without the read grant, the job fails and names the missing permission
    assert found["read"]["ProcessingJobStatus"] == "Failed"
    assert "s3:ListBucket" in found["read"]["FailureReason"]
    # and a job whose role cannot pull the image or cannot be assumed is not created
    with pytest.raises(ClientError, match=r"ValidationException.*not authorized to perform: ecr:"):
        sagemaker.create_processing_job(**requests["pull"])
    nobodys = requests["pull"] | {"RoleArn": "arn:aws:iam::000000000000:role/nobodys"}
    with pytest.raises(ClientError, match="Could not assume role"):
        sagemaker.create_processing_job(**nobodys)


@pytest.mark.parametrize("mode", ["EndOfJob", "Continuous"])
def test_role_without_put_object_fails_the_job(cloud: LocalCloud, sagemaker: Any, s3: Any, mode: str) -> None:
    # given a job that writes output, and keeps running if the output is uploaded continuously
    wait = "time.sleep(300)" if mode == "Continuous" else ""
    script = f"(out / 'rows').write_text('1')\n{wait}"
    name = f"unwritten-{next(names)}"
    outputs = [output(mode, S3Uri=f"s3://{BUCKET}/{name}")]
    params = request(s3, script, ProcessingJobName=name, outputs=outputs, RoleArn=role(cloud, "write"))
    cloud.enforce_iam(True)
    sagemaker.create_processing_job(**params)
    job = ended(sagemaker, name)
    # then the job fails with the missing permission
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Output upload failed:")
    assert "s3:PutObject" in job["FailureReason"]
    cloud.enforce_iam(False)
    assert objects(s3, f"{name}/") == {}


def test_policies_limit_the_jobs_and_roles_of_a_caller(cloud: LocalCloud, sagemaker: Any, s3: Any) -> None:
    # given a caller who may start jobs with a name prefix, and pass one role to SageMaker
    own, other = role(cloud), role(cloud)
    jobs = f"arn:aws:sagemaker:{cloud.region}:000000000000:processing-job/mine-*"
    passing = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    person = caller(
        cloud,
        {"Action": ["sagemaker:CreateProcessingJob", "sagemaker:DescribeProcessingJob"], "Resource": jobs},
        {"Action": "iam:PassRole", "Resource": own, "Condition": passing},
    )
    name = f"mine-{next(names)}"
    allowed = request(s3, "", ProcessingJobName=name, RoleArn=own)
    cloud.enforce_iam(True)
    # then a job with that prefix and role runs
    person.create_processing_job(**allowed)
    assert ended(person, name)["ProcessingJobStatus"] == "Completed"
    # and a request with another name, another role, tags or another operation is denied, and the error names
    # the action
    again = allowed | {"ProcessingJobName": f"{name}-2"}
    for action, asked in (
        ("sagemaker:CreateProcessingJob", again | {"ProcessingJobName": "other"}),
        ("iam:PassRole", again | {"RoleArn": other}),
        ("sagemaker:AddTags", again | {"Tags": [{"Key": "a", "Value": "b"}]}),
    ):
        with pytest.raises(ClientError, match=rf"AccessDeniedException.*not authorized to perform: {action}"):
            person.create_processing_job(**asked)
    with pytest.raises(ClientError, match="not authorized to perform: sagemaker:DeleteProcessingJob"):
        person.delete_processing_job(ProcessingJobName=name)


KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
FIRST, OUTPUT = "ProcessingInputs.2.member.S3Input", "ProcessingOutputConfig.Outputs.1.member.S3Output"
INPUT = f"s3://{BUCKET}/x"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "local path elsewhere": (
        {"inputs": [source("a", INPUT, LocalPath="/opt/ml/input")]},
        rf"{FIRST}\.LocalPath must begin with /opt/ml/processing/, got /opt/ml/input",
    ),
    "local path that leads out": (
        {"outputs": [output(LocalPath="/opt/ml/processing/../input")]},
        rf"{OUTPUT}\.LocalPath must begin with /opt/ml/processing/",
    ),
    "no local path": (
        {"inputs": [{"InputName": "a", "S3Input": {"S3Uri": INPUT, "S3DataType": "S3Prefix"}}]},
        rf"{FIRST}\.LocalPath is required unless AppManaged is true",
    ),
    "no S3 address": (
        {"inputs": [source("a", "https://x/y")]},
        rf"{FIRST}\.S3Uri: https://x/y is not an S3 address",
    ),
    "gzip in File mode": (
        {"inputs": [source("a", INPUT, S3CompressionType="Gzip")]},
        rf"{FIRST}\.S3CompressionType Gzip can only be used with S3InputMode Pipe",
    ),
    "neither kind of input": (
        {"inputs": [{"InputName": "a"}]},
        r"ProcessingInputs\.2\.member must have exactly one of S3Input and DatasetDefinition",
    ),
    "neither kind of output": (
        {"outputs": [{"OutputName": "a"}]},
        "must have exactly one of S3Output and FeatureStoreOutput",
    ),
    "one name twice": (
        {"outputs": [output(), output()]},
        "ProcessingOutputConfig.Outputs must have different names, got OutputName out twice",
    ),
    "no instance type": (
        {"cluster": {"InstanceType": None}},
        "ProcessingResources.ClusterConfig.InstanceType is required",
    ),
    "unknown instance type": (
        {"cluster": {"InstanceType": "ml.huge.large"}},
        "'ml.huge.large' at 'ProcessingResources.ClusterConfig.InstanceType' must be one of",
    ),
    "selected instance type": (
        {"cluster": {"SelectedInstanceType": "ml.m5.large"}},
        "ClusterConfig.SelectedInstanceType is set by SageMaker",
    ),
    "volume key on local disks": (
        {"cluster": {"InstanceType": "ml.g5.xlarge", "VolumeKmsKeyId": KEY}},
        "VolumeKmsKeyId can't be requested for instance type ml.g5.xlarge",
    ),
    "unknown image": (
        {"AppSpecification": {"ImageUri": "000000000000.dkr.ecr.eu-west-1.amazonaws.com/none:1"}},
        "Cannot pull the processing image",
    ),
}
UNBUILT: dict[str, tuple[dict[str, Any], str]] = {
    "pipe": ({"inputs": [source("a", INPUT, S3InputMode="Pipe")]}, "S3Input.S3InputMode Pipe"),
    "dataset": (
        {"inputs": [{"InputName": "a", "DatasetDefinition": {"LocalPath": "/opt/ml/processing/a"}}]},
        "DatasetDefinition",
    ),
    "feature store": (
        {"outputs": [{"OutputName": "a", "FeatureStoreOutput": {"FeatureGroupName": "g"}}]},
        "FeatureStoreOutput",
    ),
    "experiment": ({"ExperimentConfig": {"ExperimentName": "e"}}, "ExperimentConfig"),
    "preferences": (
        {"cluster": {"InstancePreferences": [{"InstanceType": "ml.m5.large", "InstanceCount": 1}]}},
        "InstancePreferences",
    ),
}


def refusal(cloud: LocalCloud, s3: Any, members: dict[str, Any]) -> Any:
    params = request(s3, "", **members)
    cluster = params["ProcessingResources"]["ClusterConfig"]
    params["ProcessingResources"]["ClusterConfig"] = {
        name: value for name, value in cluster.items() if value is not None
    }
    hasty = client(cloud, "sagemaker", attempts=1)
    with pytest.raises(ClientError) as refused:
        hasty.create_processing_job(**params)
    assert (
        hasty.list_processing_jobs(NameContains=params["ProcessingJobName"])["ProcessingJobSummaries"] == []
    )
    return refused.value.response["Error"]


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_request_is_refused_and_names_the_field(cloud: LocalCloud, s3: Any, case: str) -> None:
    members, said = REFUSED[case]
    error = refusal(cloud, s3, members)
    assert error["Code"] == "ValidationException"
    assert re.search(said, error["Message"]), error["Message"]


@pytest.mark.parametrize("case", UNBUILT)
def test_unsupported_request_is_refused(cloud: LocalCloud, s3: Any, case: str) -> None:
    members, said = UNBUILT[case]
    error = refusal(cloud, s3, members)
    assert error["Code"] == "NotImplementedByLocalCloud"
    assert said in error["Message"]
