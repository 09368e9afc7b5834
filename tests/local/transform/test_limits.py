"""Quotas, roles and refused requests of transform jobs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.transform_jobs import Transforms
from tests.support.waiting import until


def test_jobs_past_a_quota_are_refused_by_its_name(bench: Transforms) -> None:
    # given a quota of one instance, and a job that uses it
    bench.cloud.configure(transform_instances=1, transform_instances_per_job=1)
    model, uri = bench.model(), bench.input(a_csv="wait\n")
    first = bench.start(uri, ModelName=model)
    # then another job is refused, and so is a job with more instances than the quota for one job allows
    with pytest.raises(ClientError, match="ResourceLimitExceeded") as refused:
        bench.start(uri, ModelName=model)
    assert (
        "'ml.m5.large for transform job usage' is 1 Instances, with current utilization of 1 Instances"
        in str(refused.value)
    )
    with pytest.raises(ClientError, match="'Maximum number of instances per transform job' is 1"):
        bench.start(uri, ModelName=model, resources={"InstanceCount": 2})
    # and when the first job has ended, another job can start
    bench.sagemaker.stop_transform_job(TransformJobName=first)
    bench.ended(first)
    bench.start(uri, ModelName=model)


def test_job_has_the_grants_of_its_models_role(bench: Transforms) -> None:
    # given models whose roles lack one grant each, and policies that are enforced
    missing = ("", "s3:PutObject", "s3:GetObject", "s3:ListBucket", "logs:")
    models = {}
    for without in missing:
        role = bench.new_role("transforms", *bench.grants(*filter(None, [without])))
        # the model has no data, because fetching data would also need s3:GetObject
        models[without] = bench.model(role=role, ModelDataUrl=None)
    models["sts:"] = bench.model(role="arn:aws:iam::000000000000:role/nobodys", ModelDataUrl=None)
    uri = bench.input(a_csv="1\n")
    bench.cloud.enforce_iam(True)
    started = {without: bench.start(uri, ModelName=model) for without, model in models.items()}
    found = {without: bench.ended(name) for without, name in started.items()}
    bench.cloud.enforce_iam(False)
    # then with all grants, or without the grant to write logs, objects are transformed
    for without in ("", "logs:"):
        assert found[without]["TransformJobStatus"] == "Completed", found[without].get("FailureReason")
        assert list(bench.outputs(found[without])) == ["a.csv.out"]
    logs = bench.client("logs")
    streams = logs.describe_log_streams(logGroupName="/aws/sagemaker/TransformJobs")["logStreams"]
    told = {stream["logStreamName"].partition("/")[0] for stream in streams}
    assert started[""] in told
    assert started["logs:"] not in told
    # and without a grant to read, list or write, or when the role cannot be assumed, the job fails with the
    # reason
    assert found["sts:"]["FailureReason"].startswith("ClientError: Could not assume role")
    assert "s3:GetObject" in found["s3:GetObject"]["FailureReason"]
    assert "s3:ListBucket" in found["s3:ListBucket"]["FailureReason"]
    assert found["s3:PutObject"]["FailureReason"].startswith("ClientError: Artifact upload failed:")
    assert "s3:PutObject" in found["s3:PutObject"]["FailureReason"]
    assert bench.outputs(found["s3:PutObject"]) == {}


def test_caller_needs_the_operation_and_no_role(bench: Transforms) -> None:
    # given a caller who may start transform jobs whose names have a prefix, and may pass no role
    jobs = f"arn:aws:sagemaker:{bench.cloud.region}:000000000000:transform-job/mine-*"
    grant = {"Effect": "Allow", "Action": "sagemaker:CreateTransformJob", "Resource": jobs}
    person = bench.as_user("sagemaker", grant)
    params = bench.request(bench.input(a_csv="1"), TransformJobName=f"mine-{bench.name}")
    bench.cloud.enforce_iam(True)
    # then a job with that prefix runs, because the job uses the model's role, and a job of another name is
    # denied
    person.create_transform_job(**params)
    bench.ended(params["TransformJobName"])
    with pytest.raises(ClientError, match="not authorized to perform: sagemaker:CreateTransformJob"):
        person.create_transform_job(**params | {"TransformJobName": "other"})
    with pytest.raises(ClientError, match="not authorized to perform: sagemaker:StopTransformJob"):
        person.stop_transform_job(TransformJobName=params["TransformJobName"])


def test_unknown_job_and_unknown_model_are_not_found(bench: Transforms) -> None:
    for operation in ("describe", "stop"):
        with pytest.raises(ClientError, match=r"ValidationException.*Could not find requested job"):
            getattr(bench.sagemaker, f"{operation}_transform_job")(TransformJobName="nobody")
    with pytest.raises(ClientError, match=r'ValidationException.*Could not find model "arn:.*model/nobody"'):
        bench.start("s3://b/x", ModelName="nobody")


def test_input_without_objects_fails_the_job(bench: Transforms) -> None:
    uri = f"s3://{bench.bucket}/nothing/"
    job = bench.run(uri)
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(f'ClientError: No S3 objects found under S3 URL "{uri}"')


KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
AMI = "al2-ami-sagemaker-batch-gpu-535"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no S3 input": ({"uri": "https://x/y"}, r"S3DataSource\.S3Uri: https://x/y is not an S3 address"),
    "no S3 output": (
        {"output": {"S3OutputPath": "https://x/y"}},
        r"TransformOutput\.S3OutputPath: https://x/y is not an S3 address",
    ),
    "augmented manifest": (
        {"data_type": "AugmentedManifestFile"},
        r"S3DataSource\.S3DataType AugmentedManifestFile is not supported",
    ),
    "payload": ({"MaxPayloadInMB": 101}, "MaxPayloadInMB must be at most 100, got 101"),
    "payload of all": (
        {"MaxPayloadInMB": 30, "MaxConcurrentTransforms": 4},
        r"MaxConcurrentTransforms \* MaxPayloadInMB must be at most 100, got 4 \* 30",
    ),
    "instances": (
        {"resources": {"InstanceCount": 101}},
        r"TransformResources\.InstanceCount must be at most 100, got 101",
    ),
    "instance type": (
        {"resources": {"InstanceType": "ml.huge.large"}},
        "'ml.huge.large' at 'TransformResources.InstanceType' must be one of",
    ),
    "volume key on local disks": (
        {"resources": {"InstanceType": "ml.g5.xlarge", "VolumeKmsKeyId": KEY}},
        "VolumeKmsKeyId can't be requested for instance type ml.g5.xlarge",
    ),
    "GPU image without GPU": (
        {"resources": {"TransformAmiVersion": AMI}},
        f"TransformAmiVersion {AMI} is not supported for instance type ml.m5.large",
    ),
}
CAPTURE = {"DestinationS3Uri": "s3://b/x"}
UNBUILT: dict[str, tuple[dict[str, Any], str]] = {
    "RecordIO": ({"input": {"SplitType": "RecordIO"}}, "TransformInput.SplitType RecordIO"),
    "TFRecord": ({"input": {"SplitType": "TFRecord"}}, "TransformInput.SplitType TFRecord"),
    "input filter": ({"DataProcessing": {"InputFilter": "$[1:]"}}, "DataProcessing.InputFilter"),
    "output filter": ({"DataProcessing": {"OutputFilter": "$[0]"}}, "DataProcessing.OutputFilter"),
    "join": ({"DataProcessing": {"JoinSource": "Input"}}, "DataProcessing.JoinSource Input"),
    "capture": ({"DataCaptureConfig": CAPTURE}, "DataCaptureConfig"),
    "experiment": ({"ExperimentConfig": {"ExperimentName": "e"}}, "ExperimentConfig"),
    "chunks": ({"MaxPayloadInMB": 0}, "MaxPayloadInMB 0"),
    "converse": ({"data_type": "Converse"}, "S3DataType Converse"),
}


def refusal(bench: Transforms, members: dict[str, Any], model: str = "any") -> Any:
    members = {"uri": "s3://b/x", "ModelName": model} | members
    with pytest.raises(ClientError) as refused:
        bench.start(members.pop("uri"), **members)
    return refused.value.response["Error"]


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_request_is_refused_and_names_the_field(bench: Transforms, case: str) -> None:
    members, said = REFUSED[case]
    error = refusal(bench, members)
    assert error["Code"] == "ValidationException"
    assert re.search(said, error["Message"]), error["Message"]


@pytest.mark.parametrize("case", UNBUILT)
def test_unsupported_request_is_refused(bench: Transforms, case: str) -> None:
    members, said = UNBUILT[case]
    error = refusal(bench, members)
    assert error["Code"] == "NotImplementedByLocalCloud"
    assert said in error["Message"]


def test_models_that_cannot_transform_are_refused(bench: Transforms) -> None:
    # given a model with network isolation, a multi-model container, a model with several containers, and a
    # model without a role
    container = {"Image": bench.image, "ModelDataUrl": f"s3://{bench.bucket}/models/"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"PrimaryContainer": container, "EnableNetworkIsolation": True}, "EnableNetworkIsolation"),
        ({"PrimaryContainer": container | {"Mode": "MultiModel"}}, "mode MultiModel"),
        ({"Containers": [container, container]}, "several containers"),
        ({"PrimaryContainer": container, "ExecutionRoleArn": None}, "has no ExecutionRoleArn"),
    ]
    for number, (members, said) in enumerate(cases):
        name = f"{bench.name}-{number}"
        given = {"ExecutionRoleArn": bench.role} | members
        bench.sagemaker.create_model(
            ModelName=name, **{member: value for member, value in given.items() if value is not None}
        )
        # then no job can be created with any of them, and the error has the reason
        assert said in refusal(bench, {}, name)["Message"]
    assert until(lambda: not bench.cloud.status()["transform_jobs_running"])
