"""SageMaker's records on the local cloud, through boto3: stored fields and refusals."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import ACCOUNT, REGION, LocalCloud
from tests.support.clouds import own_keys
from tests.support.deployments import allow_events
from tests.support.hosting import unique
from tests.support.waiting import until

ROLE = f"arn:aws:iam::{ACCOUNT}:role/some-role"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/serves:latest"
DATA = "s3://bucket/model.tar.gz"
GPU_AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
INSTANCE = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
SERVERLESS = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}


@pytest.fixture(scope="module")
def client(cloud: LocalCloud) -> Any:
    def make(service: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=cloud.endpoint_url,
            region_name=REGION,
            **own_keys(cloud),
            # The client does not validate the parameters, because the service's validation is tested
            config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
        )

    return make


@pytest.fixture(scope="module")
def sagemaker(client: Any) -> Any:
    return client("sagemaker")


def refused(code: str, message: str) -> Any:
    return pytest.raises(ClientError, match=rf"(?s){code}.*{message}")


def arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


def make_model(sagemaker: Any, name: str | None = None, **given: Any) -> str:
    name = name or unique("model")
    container = {"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": DATA}}
    request = {"ModelName": name, "ExecutionRoleArn": ROLE} | container | given
    sagemaker.create_model(**{key: value for key, value in request.items() if value is not None})
    return name


# Models


def test_model_is_described_with_its_created_fields(sagemaker: Any) -> None:
    name = make_model(
        sagemaker,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": DATA, "Environment": {"A": "1"}},
        VpcConfig={"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        EnableNetworkIsolation=True,
    )

    found = sagemaker.describe_model(ModelName=name)

    assert found["ModelArn"] == arn("model", name)
    assert found["PrimaryContainer"] == {
        "Image": IMAGE,
        "ModelDataUrl": DATA,
        "Environment": {"A": "1"},
        "Mode": "SingleModel",
    }
    assert found["ExecutionRoleArn"] == ROLE
    assert found["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert found["EnableNetworkIsolation"] is True
    sagemaker.delete_model(ModelName=name)
    with refused("ValidationException", f'Could not find model "{arn("model", name)}".'):
        sagemaker.describe_model(ModelName=name)
    with refused("ValidationException", "Could not find model"):
        sagemaker.delete_model(ModelName=name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ModelName": "not_allowed!"}, "must match the pattern"),
        ({"PrimaryContainer": {"ModelDataUrl": DATA}}, "needs an Image or a ModelPackageName"),
        ({"PrimaryContainer": None}, "Exactly one of PrimaryContainer and Containers"),
        ({"Containers": [{"Image": IMAGE}]}, "Exactly one of PrimaryContainer and Containers"),
        (
            {
                "PrimaryContainer": {
                    "Image": IMAGE,
                    "ModelDataUrl": DATA,
                    "ModelDataSource": {
                        "S3DataSource": {
                            "S3Uri": DATA,
                            "S3DataType": "S3Object",
                            "CompressionType": "Gzip",
                        }
                    },
                }
            },
            "Only one of ModelDataUrl and ModelDataSource",
        ),
        ({"PrimaryContainer": {"ModelPackageName": "no-such-package"}}, "no-such-package does not exist"),
        ({"PrimaryContainer": {"Image": IMAGE, "Mode": "Several"}}, "Mode.*must be one of"),
        ({"PrimaryContainer": {"Image": IMAGE, "Mode": "MultiModel"}}, "needs the S3 prefix of its models"),
        ({"ExecutionRoleArn": "nobody"}, "ExecutionRoleArn"),
        ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "Duplicate tag key"),
        ({"Tags": [{"Key": "aws:a", "Value": "1"}]}, "reserved for system use"),
    ],
)
def test_invalid_model_is_refused(sagemaker: Any, given: dict[str, Any], message: str) -> None:
    name = unique("model")
    with refused("ValidationException", message):
        make_model(sagemaker, **{"name": name} | given)
    assert not sagemaker.list_models(NameContains=name)["Models"]


def test_existing_name_is_refused(sagemaker: Any) -> None:
    model = make_model(sagemaker)
    config = unique("config")
    variants = [{"VariantName": "one", "ModelName": model} | INSTANCE]
    sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=variants)

    with refused("ValidationException", f'Cannot create already existing model "{arn("model", model)}"'):
        make_model(sagemaker, model)
    with refused(
        "ValidationException", f'existing endpoint configuration "{arn("endpoint-config", config)}"'
    ):
        sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=variants)


def test_lists_are_filtered_sorted_and_cut_into_pages(sagemaker: Any) -> None:
    word = unique("paged")
    names = [make_model(sagemaker, f"{word}-{number}") for number in range(5)]

    newest = sagemaker.list_models(NameContains=word)["Models"]
    by_name = sagemaker.list_models(NameContains=word, SortBy="Name", SortOrder="Ascending")["Models"]
    pages = list(
        sagemaker.get_paginator("list_models").paginate(
            NameContains=word, SortBy="Name", PaginationConfig={"PageSize": 2}
        )
    )

    assert [each["ModelName"] for each in newest] == names[::-1]
    assert [each["ModelName"] for each in by_name] == names
    assert [len(page["Models"]) for page in pages] == [2, 2, 1]
    assert [each["ModelName"] for page in pages for each in page["Models"]] == names[::-1]
    after = sagemaker.list_models(NameContains=word, CreationTimeAfter=newest[1]["CreationTime"])["Models"]
    assert {each["ModelName"] for each in after} == set(names[3:])
    with refused("ValidationException", "NextToken"):
        sagemaker.list_models(NextToken="no such page")


@pytest.mark.parametrize("packaged", [False, True])
def test_model_whose_image_has_an_oci_manifest_is_refused(
    client: Any, sagemaker: Any, packaged: bool
) -> None:
    # Given an image with an OCI manifest, as current Docker pushes it without `oci-mediatypes=false`
    ecr, repository = client("ecr"), unique("oci")
    ecr.create_repository(repositoryName=repository)
    kind = "application/vnd.oci.image.manifest.v1+json"
    ecr.put_image(
        repositoryName=repository,
        imageTag="latest",
        imageManifest=json.dumps({"schemaVersion": 2, "mediaType": kind, "config": {}, "layers": []}),
        imageManifestMediaType=kind,
    )
    image = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{repository}:latest"
    container = {"Image": image, "ModelDataUrl": DATA}
    if packaged:
        package = sagemaker.create_model_package(
            ModelPackageGroupName=make_group(sagemaker),
            InferenceSpecification=SPECIFICATION | {"Containers": [container]},
            ModelApprovalStatus="Approved",
        )
        container = {"ModelPackageName": package["ModelPackageArn"]}

    # Then SageMaker refuses to create a model from the image
    with refused(
        "ValidationException", f"Unsupported manifest media type {re.escape(kind)} for image {image}"
    ):
        make_model(sagemaker, PrimaryContainer=container)


@pytest.mark.parametrize("by", ["Name", "CreationTime"])
def test_pages_skip_nothing_when_records_are_deleted_between_them(sagemaker: Any, by: str) -> None:
    # given seven models, of which the first page lists three
    word = unique("paged")
    names = [make_model(sagemaker, f"{word}-{number}") for number in range(7)]
    asked = {"NameContains": word, "SortBy": by, "SortOrder": "Ascending", "MaxResults": 3}
    first = sagemaker.list_models(**asked)
    # when the first and the last model of the first page, and a model of the second page, are deleted
    for name in (names[0], names[2], names[4]):
        sagemaker.delete_model(ModelName=name)
    # then the second page lists the remaining models, and the page token is refused with another sort order
    rest = sagemaker.list_models(**asked, NextToken=first["NextToken"])
    assert [each["ModelName"] for each in rest["Models"]] == [names[3], names[5], names[6]]
    assert "NextToken" not in rest
    with refused("ValidationException", "NextToken"):
        sagemaker.list_models(**asked | {"SortOrder": "Descending"}, NextToken=first["NextToken"])


# Endpoint configurations


def test_endpoint_configuration_is_described_with_its_created_fields(sagemaker: Any) -> None:
    model, name = make_model(sagemaker), unique("config")
    capture = {
        "EnableCapture": False,
        "InitialSamplingPercentage": 10,
        "DestinationS3Uri": "s3://bucket/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{"VariantName": "one", "ModelName": model} | INSTANCE],
        DataCaptureConfig=capture,
    )

    found = sagemaker.describe_endpoint_config(EndpointConfigName=name)

    variant = {"VariantName": "one", "ModelName": model, "InitialVariantWeight": 1.0} | INSTANCE
    assert found["ProductionVariants"] == [variant]
    assert found["DataCaptureConfig"] == capture
    listed = sagemaker.list_endpoint_configs(NameContains=name)["EndpointConfigs"]
    assert [each["EndpointConfigArn"] for each in listed] == [arn("endpoint-config", name)]
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    with refused("ValidationException", "Could not find endpoint configuration"):
        sagemaker.describe_endpoint_config(EndpointConfigName=name)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([{"ModelName": "nowhere"} | INSTANCE], 'Could not find model ".*model/nowhere"'),
        ([{"ModelName": "MODEL"}], "needs InstanceType and InitialInstanceCount, or a ServerlessConfig"),
        ([{"ModelName": "MODEL"} | INSTANCE | SERVERLESS], "InstanceType cannot be given as well"),
        (
            [{"ModelName": "MODEL", "InstanceType": "ml.none.large", "InitialInstanceCount": 1}],
            "must be one of",
        ),
        (
            [{"ModelName": "MODEL", "ServerlessConfig": {"MemorySizeInMB": 1500, "MaxConcurrency": 1}}],
            "1500 is not one of 1024, 2048",
        ),
        (
            [{"ModelName": "MODEL", "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 201}}],
            "at most 200",
        ),
        ([{"ModelName": "MODEL"} | INSTANCE, {"ModelName": "MODEL"} | INSTANCE], "must differ"),
        (
            [{"ModelName": "MODEL"} | SERVERLESS, {"ModelName": "MODEL", "VariantName": "b"} | SERVERLESS],
            "one",
        ),
        ([{"ModelName": "ISOLATED"} | SERVERLESS], "network isolation"),
        ([{"ModelName": "MODEL", "InitialVariantWeight": 0} | INSTANCE], "weight above 0"),
        ([{"ModelName": "MODEL", "InferenceAmiVersion": "newest"} | INSTANCE], "must be one of"),
        (
            [{"ModelName": "MODEL", "InferenceAmiVersion": GPU_AMI} | INSTANCE],
            f"{GPU_AMI} is not supported for instance type ml.m5.large",
        ),
        ([{"ModelName": "MANY"} | INSTANCE | {"InstanceType": "ml.g6.xlarge"}], "Multi-model endpoints"),
        ([], "ProductionVariants"),
    ],
)
def test_configuration_that_cannot_be_served_is_refused(
    sagemaker: Any, variants: list[dict[str, Any]], message: str
) -> None:
    many = {"Image": IMAGE, "ModelDataUrl": "s3://bucket/models/", "Mode": "MultiModel"}
    models = {
        "MODEL": make_model(sagemaker),
        "ISOLATED": make_model(sagemaker, EnableNetworkIsolation=True),
        "MANY": make_model(sagemaker, PrimaryContainer=many),
    }
    given = [
        {"VariantName": "a"} | each | {"ModelName": models.get(each["ModelName"], each["ModelName"])}
        for each in variants
    ]
    with refused("ValidationException", message):
        sagemaker.create_endpoint_config(EndpointConfigName=unique("config"), ProductionVariants=given)


def test_unsupported_parameter_is_refused_by_name(sagemaker: Any) -> None:
    variants = [{"VariantName": "one", "ModelName": make_model(sagemaker)} | INSTANCE]
    output = {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}

    with refused(
        "NotImplementedByLocalCloud", "CreateEndpointConfig with AsyncInferenceConfig is not implemented"
    ):
        sagemaker.create_endpoint_config(
            EndpointConfigName="async", ProductionVariants=variants, AsyncInferenceConfig=output
        )
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 10,
        "DestinationS3Uri": "s3://bucket/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    with refused("NotImplementedByLocalCloud", "CreateEndpointConfig with DataCaptureConfig.EnableCapture"):
        sagemaker.create_endpoint_config(
            EndpointConfigName="captured", ProductionVariants=variants, DataCaptureConfig=capture
        )
    with refused("NotImplementedByLocalCloud", "CreatePresignedNotebookInstanceUrl is not implemented"):
        sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName="any")


# The registry


def make_group(sagemaker: Any) -> str:
    group = unique("group")
    sagemaker.create_model_package_group(ModelPackageGroupName=group)
    return group


SPECIFICATION = {
    "Containers": [{"Image": IMAGE, "ModelDataUrl": DATA}],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["application/json"],
}


def register(sagemaker: Any, group: str, **given: Any) -> str:
    request = {"ModelPackageGroupName": group, "InferenceSpecification": SPECIFICATION} | given
    answer = sagemaker.create_model_package(
        **{key: value for key, value in request.items() if value is not None}
    )
    return answer["ModelPackageArn"]


def test_versions_are_numbered_in_their_group_and_wait_for_approval(sagemaker: Any) -> None:
    group = make_group(sagemaker)
    metrics = {"ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": "s3://b/m.json"}}}

    first = register(sagemaker, group, ModelMetrics=metrics, CustomerMetadataProperties={"rmse": "0.42"})
    second = register(sagemaker, arn("model-package-group", group))  # by its ARN

    assert first == arn("model-package", f"{group}/1")
    assert second == arn("model-package", f"{group}/2")
    found = sagemaker.describe_model_package(ModelPackageName=first)
    assert found["ModelPackageGroupName"] == group
    assert found["ModelPackageVersion"] == 1
    assert found["ModelPackageStatus"] == "Completed"
    assert found["ModelApprovalStatus"] == "PendingManualApproval"
    assert found["InferenceSpecification"] == SPECIFICATION
    assert found["ModelMetrics"] == metrics
    assert found["CustomerMetadataProperties"] == {"rmse": "0.42"}
    assert "ModelPackageName" not in found  # versions of a group have no name

    # The number of a deleted version is not used again
    sagemaker.delete_model_package(ModelPackageName=second)
    with refused("ValidationException", f"ModelPackage {second} does not exist"):
        sagemaker.describe_model_package(ModelPackageName=second)
    assert register(sagemaker, group).endswith("/3")


def test_approval_and_properties_can_be_changed(sagemaker: Any) -> None:
    package = register(sagemaker, make_group(sagemaker), CustomerMetadataProperties={"a": "1", "b": "1"})

    sagemaker.update_model_package(
        ModelPackageArn=package,
        ModelApprovalStatus="Approved",
        ApprovalDescription="better",
        CustomerMetadataProperties={"b": "2", "c": "3"},
        CustomerMetadataPropertiesToRemove=["a"],
    )

    found = sagemaker.describe_model_package(ModelPackageName=package)
    assert found["ModelApprovalStatus"] == "Approved"
    assert found["ApprovalDescription"] == "better"
    assert found["CustomerMetadataProperties"] == {"b": "2", "c": "3"}
    assert found["LastModifiedTime"] >= found["CreationTime"]
    with refused("ValidationException", "must be one of"):
        sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Perhaps")


def test_packages_are_listed_by_group_approval_and_order(sagemaker: Any) -> None:
    group = make_group(sagemaker)
    packages = [register(sagemaker, group) for _ in range(11)]
    sagemaker.update_model_package(ModelPackageArn=packages[1], ModelApprovalStatus="Approved")

    def versions(**filters: Any) -> list[int]:
        found = sagemaker.list_model_packages(ModelPackageGroupName=group, **filters)
        return [each["ModelPackageVersion"] for each in found["ModelPackageSummaryList"]]

    assert versions(MaxResults=100) == list(range(1, 12))
    assert versions(SortBy="CreationTime", SortOrder="Descending", MaxResults=2) == [11, 10]
    assert versions(ModelApprovalStatus="Approved") == [2]
    with refused("ValidationException", "ModelPackageGroup .*nowhere does not exist"):
        sagemaker.list_model_packages(ModelPackageGroupName="nowhere")


def test_package_without_a_group_needs_instance_types(sagemaker: Any) -> None:
    name = unique("package")
    whole = SPECIFICATION | {
        "SupportedTransformInstanceTypes": ["ml.m5.large"],
        "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.large"],
    }
    with refused("ValidationException", "SupportedTransformInstanceTypes is required"):
        sagemaker.create_model_package(ModelPackageName=name, InferenceSpecification=SPECIFICATION)

    created = sagemaker.create_model_package(ModelPackageName=name, InferenceSpecification=whole)

    assert created["ModelPackageArn"] == arn("model-package", name)
    assert sagemaker.describe_model_package(ModelPackageName=name)["ModelPackageName"] == name
    listed = sagemaker.list_model_packages(NameContains=name)["ModelPackageSummaryList"]
    assert [each["ModelPackageName"] for each in listed] == [name]
    with refused("ValidationException", "already exists"):
        sagemaker.create_model_package(ModelPackageName=name, InferenceSpecification=whole)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ModelPackageName": "both"}, "Both ModelPackageName and ModelPackageGroupName are provided"),
        ({"ModelPackageGroupName": None}, "Missing ARN"),
        ({"ModelPackageGroupName": "nowhere"}, "nowhere does not exist"),
        ({"Tags": [{"Key": "a", "Value": "1"}]}, "Tags cannot be given"),
        ({"InferenceSpecification": {"Containers": [{"ModelDataUrl": DATA}]}}, "needs an Image"),
        ({"InferenceSpecification": {"Containers": []}}, "Containers"),
    ],
)
def test_invalid_package_is_refused(sagemaker: Any, given: dict[str, Any], message: str) -> None:
    group = make_group(sagemaker)
    with refused("ValidationException", message):
        register(sagemaker, **{"group": group} | given)
    assert not sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]


def test_request_repeated_with_its_token_registers_one_version(sagemaker: Any) -> None:
    group = make_group(sagemaker)

    first, second = (register(sagemaker, group, ClientToken="the-same") for _ in range(2))

    assert first == second
    assert len(sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]) == 1


def test_only_an_empty_group_can_be_deleted(sagemaker: Any) -> None:
    group = make_group(sagemaker)
    package = register(sagemaker, group)

    with refused("ConflictException", "contains 1 model packages"):
        sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    sagemaker.delete_model_package(ModelPackageName=package)
    sagemaker.delete_model_package_group(ModelPackageGroupName=group)

    with refused("ValidationException", f"model-package-group/{group} does not exist"):
        sagemaker.describe_model_package_group(ModelPackageGroupName=group)


def test_change_of_a_package_sends_an_event(sagemaker: Any, client: Any) -> None:
    group, name = make_group(sagemaker), unique("packages")
    sqs, events = client("sqs"), client("events")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    target = allow_events(sqs, queue)
    pattern = {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Model Package State Change"],
        "detail": {"ModelPackageGroupName": [group], "ModelApprovalStatus": ["Approved"]},
    }
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": target}])

    package = register(sagemaker, group)
    sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Approved")

    (message,) = until(lambda: sqs.receive_message(QueueUrl=queue).get("Messages"))
    event = json.loads(message["Body"])
    assert event["resources"] == [package]
    assert event["detail"]["ModelPackageVersion"] == 1
    assert event["detail"]["ModelPackageStatus"] == "Completed"
    assert event["detail"]["InferenceSpecification"] == SPECIFICATION


# Notebooks


def script(text: str) -> list[dict[str, str]]:
    return [{"Content": base64.b64encode(text.encode()).decode()}]


def make_notebook(sagemaker: Any, **given: Any) -> str:
    name = unique("notebook")
    sagemaker.create_notebook_instance(
        NotebookInstanceName=name, InstanceType="ml.t3.medium", RoleArn=ROLE, **given
    )
    return name


def notebook_status(sagemaker: Any, name: str) -> str:
    return sagemaker.describe_notebook_instance(NotebookInstanceName=name)["NotebookInstanceStatus"]


def reach(sagemaker: Any, name: str, status: str) -> None:
    until(lambda: notebook_status(sagemaker, name) == status)


def test_notebook_instance_goes_through_its_statuses(sagemaker: Any) -> None:
    lifecycle = unique("lifecycle")
    sagemaker.create_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName=lifecycle, OnStart=script("#!/bin/bash\necho started\n")
    )
    name = make_notebook(
        sagemaker,
        LifecycleConfigName=lifecycle,
        PlatformIdentifier="notebook-al2023-v2",
        RootAccess="Disabled",
        VolumeSizeInGB=10,
    )
    which = {"NotebookInstanceName": name}

    assert notebook_status(sagemaker, name) == "Pending"
    with refused("ValidationException", r"Status \(Pending\) not in \(\[InService\]\)"):
        sagemaker.stop_notebook_instance(**which)
    reach(sagemaker, name, "InService")
    found = sagemaker.describe_notebook_instance(**which)
    assert found["NotebookInstanceLifecycleConfigName"] == lifecycle
    assert found["RootAccess"] == "Disabled"
    assert found["DirectInternetAccess"] == "Enabled"
    assert found["VolumeSizeInGB"] == 10
    with refused("ValidationException", r"Status \(InService\) not in \(\[Stopped, Failed\]\)"):
        sagemaker.delete_notebook_instance(**which)

    sagemaker.stop_notebook_instance(**which)
    assert notebook_status(sagemaker, name) == "Stopping"
    reach(sagemaker, name, "Stopped")
    with refused("ValidationException", "cannot be made smaller"):
        sagemaker.update_notebook_instance(**which, VolumeSizeInGB=5)
    with refused("ValidationException", "is in use by " + name):
        sagemaker.delete_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=lifecycle)
    sagemaker.update_notebook_instance(
        **which, InstanceType="ml.m5.xlarge", DisassociateLifecycleConfig=True, VolumeSizeInGB=20
    )
    assert notebook_status(sagemaker, name) == "Updating"
    reach(sagemaker, name, "Stopped")
    found = sagemaker.describe_notebook_instance(**which)
    assert (found["InstanceType"], found["VolumeSizeInGB"]) == ("ml.m5.xlarge", 20)
    assert "NotebookInstanceLifecycleConfigName" not in found
    sagemaker.delete_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=lifecycle)

    sagemaker.start_notebook_instance(**which)
    reach(sagemaker, name, "InService")
    sagemaker.stop_notebook_instance(**which)
    reach(sagemaker, name, "Stopped")
    sagemaker.delete_notebook_instance(**which)
    assert notebook_status(sagemaker, name) == "Deleting"
    until(lambda: not sagemaker.list_notebook_instances(NameContains=name)["NotebookInstances"])
    with refused("ValidationException", "RecordNotFound"):
        sagemaker.describe_notebook_instance(**which)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"LifecycleConfigName": "nowhere"}, "nowhere.*Notebook Instance Lifecycle Config does not exist"),
        ({"SubnetId": "subnet-1"}, "SubnetId and SecurityGroupIds must be given together"),
        ({"DirectInternetAccess": "Disabled"}, "only with a SubnetId"),
        ({"VolumeSizeInGB": 4}, "VolumeSizeInGB"),
        ({"PlatformIdentifier": "notebook-os2"}, "PlatformIdentifier"),
        ({"PlatformIdentifier": "notebook-al2023-v3"}, "PlatformIdentifier"),
    ],
)
def test_invalid_notebook_instance_is_refused(sagemaker: Any, given: dict[str, Any], message: str) -> None:
    with refused("ValidationException", message):
        make_notebook(sagemaker, **given)


def test_lifecycle_configuration_is_described_updated_and_checked(sagemaker: Any) -> None:
    which = {"NotebookInstanceLifecycleConfigName": unique("lifecycle")}
    sagemaker.create_notebook_instance_lifecycle_config(**which, OnCreate=script("one"))

    sagemaker.update_notebook_instance_lifecycle_config(**which, OnStart=script("two"))

    found = sagemaker.describe_notebook_instance_lifecycle_config(**which)
    assert (found["OnCreate"], found["OnStart"]) == (script("one"), script("two"))
    listed = sagemaker.list_notebook_instance_lifecycle_configs(NameContains=which.popitem()[1])
    assert len(listed["NotebookInstanceLifecycleConfigs"]) == 1
    with refused("ValidationException", "OnCreate is not a base64-encoded script"):
        sagemaker.create_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName="plain", OnCreate=[{"Content": "#!/bin/bash"}]
        )


# Tags


def test_every_kind_of_resource_has_tags(sagemaker: Any) -> None:
    tags = [{"Key": "team", "Value": "one"}]
    model = make_model(sagemaker, Tags=tags)
    config, group, lifecycle = unique("config"), unique("group"), unique("lifecycle")
    variants = [{"VariantName": "one", "ModelName": model} | INSTANCE]
    sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=variants, Tags=tags)
    sagemaker.create_model_package_group(ModelPackageGroupName=group, Tags=tags)
    sagemaker.create_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName=lifecycle, Tags=tags
    )
    sagemaker.create_endpoint(EndpointName=config, EndpointConfigName=config, Tags=tags)
    resources = [
        arn("model", model),
        arn("endpoint-config", config),
        arn("endpoint", config),
        arn("model-package-group", group),
        arn("notebook-instance", make_notebook(sagemaker, Tags=tags)),
        arn("notebook-instance-lifecycle-config", lifecycle),
    ]
    for resource in resources:
        sagemaker.add_tags(ResourceArn=resource, Tags=[{"Key": "env", "Value": "dev"}])
        assert sagemaker.list_tags(ResourceArn=resource)["Tags"] == [{"Key": "env", "Value": "dev"}, *tags]
        sagemaker.delete_tags(ResourceArn=resource, TagKeys=["env", "team"])
        assert sagemaker.list_tags(ResourceArn=resource)["Tags"] == []


def test_tags_are_deleted_with_their_resource_and_limited(sagemaker: Any) -> None:
    model = make_model(sagemaker, Tags=[{"Key": "old", "Value": "1"}])
    sagemaker.delete_model(ModelName=model)

    with refused("ValidationException", "Could not find resource"):
        sagemaker.list_tags(ResourceArn=arn("model", model))
    make_model(sagemaker, model)

    assert sagemaker.list_tags(ResourceArn=arn("model", model))["Tags"] == []
    with refused("ValidationException", "at most 50"):
        many = [{"Key": str(number), "Value": ""} for number in range(30)]
        more = [{"Key": f"x{number}", "Value": ""} for number in range(30)]
        sagemaker.add_tags(ResourceArn=arn("model", model), Tags=many)
        sagemaker.add_tags(ResourceArn=arn("model", model), Tags=more)
