"""Validation of CreateTransformJob."""

from __future__ import annotations

from typing import Any

from local.sagemaker import artifacts, instance_types, models, records, served
from local.sagemaker.api import Context, invalid, unbuilt
from local.sagemaker.serving_container import ServingError
from local.sagemaker.store import Record

MOST_INSTANCES = 100
MOST_MEGABYTES = 100
_SOURCE = "TransformInput.DataSource.S3DataSource"


def check(params: dict[str, Any]) -> None:
    """Raise ApiError for values that botocore's service model allows, but AWS or the local cloud refuses."""
    source = params["TransformInput"]["DataSource"]["S3DataSource"]
    if source["S3DataType"] == "AugmentedManifestFile":
        raise invalid(f"{_SOURCE}.S3DataType AugmentedManifestFile is not supported.")
    _check_address(f"{_SOURCE}.S3Uri", source["S3Uri"])
    _check_address("TransformOutput.S3OutputPath", params["TransformOutput"]["S3OutputPath"])
    resources = params["TransformResources"]
    instance_types.check_volume_key(resources["InstanceType"], resources.get("VolumeKmsKeyId"))
    instance_types.check_transform_ami(resources["InstanceType"], resources.get("TransformAmiVersion"))
    if resources["InstanceCount"] > MOST_INSTANCES:
        raise invalid(
            f"TransformResources.InstanceCount must be at most {MOST_INSTANCES}, "
            f"got {resources['InstanceCount']}."
        )
    _check_payload(params.get("MaxPayloadInMB"), params.get("MaxConcurrentTransforms"))


def _check_address(member: str, uri: str) -> None:
    try:
        artifacts.split(uri)
    except ValueError as error:
        raise invalid(f"{member}: {error}") from None


def _check_payload(megabytes: int | None, concurrent: int | None) -> None:
    if megabytes is None:
        return
    if megabytes == 0:
        raise unbuilt("CreateTransformJob with MaxPayloadInMB 0 (chunked transfer encoding)")
    if megabytes > MOST_MEGABYTES:
        raise invalid(f"MaxPayloadInMB must be at most {MOST_MEGABYTES}, got {megabytes}.")
    if concurrent and concurrent * megabytes > MOST_MEGABYTES:
        raise invalid(
            f"MaxConcurrentTransforms * MaxPayloadInMB must be at most {MOST_MEGABYTES}, "
            f"got {concurrent} * {megabytes}."
        )


def model_of(context: Context, name: str) -> Record:
    """Return the `ExecutionRoleArn` and the `Container` of a job's model. Raises ApiError."""
    model = records.find(context, models.MODEL, name, models.missing_model(context, name))
    if len(models.containers(model)) > 1:
        raise unbuilt("CreateTransformJob with a model of several containers")
    if models.containers(model)[0].get("Mode") == "MultiModel":
        raise unbuilt("CreateTransformJob with a container of mode MultiModel")
    if model.get("EnableNetworkIsolation"):
        raise unbuilt("CreateTransformJob with a model with EnableNetworkIsolation")
    try:
        return served.of_model(context, name)
    except ServingError as error:
        raise invalid(str(error)) from None
