"""SageMaker in the local cloud, called through AWS's SDK: callers and roles, ECR, and logs."""

from __future__ import annotations

from collections.abc import Callable

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.deployments import ACCOUNT, REGION, assumed, job, names, policy, role, training


def test_sagemaker_answers_at_the_clouds_address(aws: Callable) -> None:
    assert aws("sagemaker").list_training_jobs()["TrainingJobSummaries"] is not None
    with pytest.raises(ClientError, match="not found"):
        aws("sagemaker-runtime").invoke_endpoint(EndpointName="nobody", Body=b"")


def test_role_has_the_grants_of_its_policy_in_sagemaker(
    cloud: LocalCloud, aws: Callable, enforced: None
) -> None:
    # given a role that may list models, and nothing else
    acting = aws("sagemaker", **assumed(aws, ("sagemaker:ListModels", "*")))
    # then the role can list models, and other calls are refused with AWS's message
    assert acting.list_models(NameContains="nobody")["Models"] == []
    with pytest.raises(ClientError, match="not authorized to perform: sagemaker:DeleteModel on resource: "
                       f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model/mine") as refused:  # fmt: skip
        acting.delete_model(ModelName="mine")
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"


def test_unsigned_request_is_refused(cloud: LocalCloud, aws: Callable, enforced: None) -> None:
    unsigned = Config(signature_version=UNSIGNED)
    sagemaker = boto3.client(
        "sagemaker", endpoint_url=cloud.endpoint_url, region_name=REGION, config=unsigned
    )
    with pytest.raises(ClientError) as refused:
        sagemaker.list_models()
    assert refused.value.response["Error"]["Code"] == "MissingAuthenticationTokenException"


def test_only_a_role_that_trusts_sagemaker_is_assumed(
    aws: Callable, enforced: None, image: str, bucket: str
) -> None:
    # given a role that trusts another service
    stranger = role(aws, "lambda.amazonaws.com", ("s3:*", "*"))
    request = training(image, bucket, stranger)
    try:
        aws("sagemaker").create_training_job(**request)
    except ClientError as error:
        reason = str(error)
    else:
        reason = job(aws, request["TrainingJobName"])["FailureReason"]
    # then the job does not run, and fails with the reason
    assert "Could not assume role" in reason


def test_absent_image_is_an_error(aws: Callable, image: str) -> None:
    with pytest.raises(ClientError) as refused:
        aws("ecr").describe_images(repositoryName="hooks", imageIds=[{"imageTag": "absent"}])
    assert refused.value.response["Error"]["Code"] == "ImageNotFoundException"
    assert aws("ecr").describe_images(repositoryName="hooks", imageIds=[{"imageTag": "1"}])["imageDetails"]


def test_bucket_policy_that_requires_tls_allows_requests(cloud: LocalCloud, aws: Callable) -> None:
    # given a bucket whose policy requires TLS, and a role that may read objects
    name = next(names)
    aws("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    aws("s3").put_object(Bucket=name, Key="key", Body=b"content")
    arn = f"arn:aws:s3:::{name}"
    deny = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    insecure = {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    aws("s3").put_bucket_policy(Bucket=name, Policy=policy(deny | insecure))
    reader = assumed(aws, ("s3:GetObject", f"{arn}/*"))
    cloud.enforce_iam(True)
    try:
        # then the role can read an object, and cannot write one
        assert aws("s3", **reader).get_object(Bucket=name, Key="key")["Body"].read() == b"content"
        with pytest.raises(ClientError, match="AccessDenied"):
            aws("s3", **reader).put_object(Bucket=name, Key="key", Body=b"other")
    finally:
        cloud.enforce_iam(False)


def test_grant_is_limited_to_log_streams(cloud: LocalCloud, aws: Callable) -> None:
    # given a log group with two streams, and a role that may delete streams whose names begin with "mine"
    group = next(names)
    aws("logs").create_log_group(logGroupName=group)
    for stream in ("mine-1", "other-1"):
        aws("logs").create_log_stream(logGroupName=group, logStreamName=stream)
    streams = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:mine-*"
    acting = aws("logs", **assumed(aws, ("logs:DeleteLogStream", streams)))
    cloud.enforce_iam(True)
    try:
        # then the role can delete the stream `mine-1`, and not the stream `other-1`
        acting.delete_log_stream(logGroupName=group, logStreamName="mine-1")
        with pytest.raises(ClientError, match="log-stream:other-1"):
            acting.delete_log_stream(logGroupName=group, logStreamName="other-1")
    finally:
        cloud.enforce_iam(False)


def test_grant_is_limited_to_one_repository(cloud: LocalCloud, aws: Callable) -> None:
    # given two repositories, and a role that may describe one of them, like the CDK's role that publishes
    # images
    mine, other = next(names), next(names)
    for name in (mine, other):
        aws("ecr").create_repository(repositoryName=name)
    arn = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{mine}"
    acting = aws("ecr", **assumed(aws, ("ecr:DescribeRepositories", arn)))
    cloud.enforce_iam(True)
    try:
        # then the role can describe this repository, and not the other one
        assert acting.describe_repositories(repositoryNames=[mine])["repositories"][0]["repositoryArn"] == arn
        with pytest.raises(ClientError, match="ecr:DescribeRepositories"):
            acting.describe_repositories(repositoryNames=[other])
    finally:
        cloud.enforce_iam(False)
