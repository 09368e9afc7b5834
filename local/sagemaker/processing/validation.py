"""Validation of CreateProcessingJob."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from local.sagemaker import artifacts, instance_types
from local.sagemaker.api import ApiError, invalid
from local.sagemaker.store import Record

DEFAULT_MAX_RUNTIME = 86_400  # seconds, the service's default
ROOT = "/opt/ml/processing/"
"""Required prefix of the local paths of inputs and outputs."""
_INPUT = {"S3InputMode": "File", "S3DataDistributionType": "FullyReplicated", "S3CompressionType": "None"}
"""Defaults of an input."""
_CLUSTER = "ProcessingResources.ClusterConfig"


def completed(params: dict[str, Any]) -> Record:
    """Return the members of a request that describe the job, with the service's defaults.

    Raises ApiError for values that botocore's service model allows, but AWS refuses."""
    record = {key: value for key, value in params.items() if key != "Tags"}
    cluster = {"InstanceCount": 1} | params["ProcessingResources"]["ClusterConfig"]
    record["ProcessingResources"] = {"ClusterConfig": cluster}
    record["StoppingCondition"] = params.get(
        "StoppingCondition", {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME}
    )
    if inputs := params.get("ProcessingInputs"):
        record["ProcessingInputs"] = [
            each | {"S3Input": _INPUT | each["S3Input"]} if "S3Input" in each else each for each in inputs
        ]
    _check_cluster(cluster)
    _check_inputs(record.get("ProcessingInputs", []))
    _check_outputs(params.get("ProcessingOutputConfig", {}).get("Outputs", []))
    return record


def _check_cluster(cluster: dict[str, Any]) -> None:
    for member in ("SelectedInstanceType", "SelectedInstanceCount"):
        if member in cluster:
            raise invalid(f"{_CLUSTER}.{member} is set by SageMaker and cannot be given.")
    if "InstanceType" not in cluster:
        raise invalid(f"{_CLUSTER}.InstanceType is required.")
    instance_types.check_volume_key(cluster["InstanceType"], cluster.get("VolumeKmsKeyId"))


def _check_inputs(inputs: Sequence[dict[str, Any]]) -> None:
    _check_names("ProcessingInputs", "InputName", inputs)
    for number, each in enumerate(inputs, start=1):
        where = f"ProcessingInputs.{number}.member"
        source = each.get("S3Input")
        if source is None:
            raise _missing(where, "S3Input", "DatasetDefinition")
        _check_s3(f"{where}.S3Input", source, each)
        if source["S3CompressionType"] == "Gzip":
            raise invalid(f"{where}.S3Input.S3CompressionType Gzip can only be used with S3InputMode Pipe.")


def _check_outputs(outputs: Sequence[dict[str, Any]]) -> None:
    where = "ProcessingOutputConfig.Outputs"
    _check_names(where, "OutputName", outputs)
    for number, each in enumerate(outputs, start=1):
        if "S3Output" not in each:
            raise _missing(f"{where}.{number}.member", "S3Output", "FeatureStoreOutput")
        _check_s3(f"{where}.{number}.member.S3Output", each["S3Output"], each)


def _check_names(where: str, member: str, entries: Sequence[dict[str, Any]]) -> None:
    names = [each[member] for each in entries]
    for name in names:
        if names.count(name) > 1:
            raise invalid(f"{where} must have different names, got {member} {name} twice.")


def _missing(where: str, one: str, other: str) -> ApiError:
    return invalid(f"{where} must have exactly one of {one} and {other}.")


def _check_s3(where: str, place: dict[str, Any], entry: dict[str, Any]) -> None:
    """Check the S3 address and the local path of an input or output. Raises ApiError."""
    try:
        artifacts.split(place["S3Uri"])
    except ValueError as error:
        raise invalid(f"{where}.S3Uri: {error}") from None
    path = place.get("LocalPath")
    if not path and not entry.get("AppManaged"):
        raise invalid(f"{where}.LocalPath is required unless AppManaged is true.")
    if path and not f"{posixpath.normpath(path)}/".startswith(ROOT):
        raise invalid(f"{where}.LocalPath must begin with {ROOT}, got {path}")
