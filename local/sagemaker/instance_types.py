"""Checks of a request's members against its instance type, with the table of types in `constructs/`."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

from local.sagemaker.api import invalid

TABLE = Path(__file__).resolve().parents[2] / "constructs" / "groundplan" / "instance_types.toml"


@functools.cache
def _families() -> dict[str, dict[str, Any]]:
    return tomllib.loads(TABLE.read_text())["families"]


def _family(instance_type: str) -> dict[str, Any]:
    """Return the table's row of an instance type's family; empty if the family is not in the table."""
    return _families().get(instance_type.split(".")[1], {})


def check_volume_key(instance_type: str, key: str | None) -> None:
    """Raise `ApiError` for a `VolumeKmsKeyId` if the instance has local disks.

    AWS's API reference of `ResourceConfig`: "You can't request a VolumeKmsKeyId when using an instance type
    with local storage."
    """
    if key and _family(instance_type).get("disks"):
        raise invalid(
            f"VolumeKmsKeyId can't be requested for instance type {instance_type}: it has local storage, "
            "which a hardware module on the instance encrypts."
        )


def check_inference_ami(instance_type: str, version: str | None) -> None:
    """Raise `ApiError` if an `InferenceAmiVersion` is for another accelerator than the instance's."""
    if not version:
        return
    family = _family(instance_type)
    has = "gpu" if "capability" in family else family.get("accelerator", "none")
    if f"-inference-{has}-" not in version:
        raise invalid(f"InferenceAmiVersion {version} is not supported for instance type {instance_type}.")


def check_transform_ami(instance_type: str, version: str | None) -> None:
    """Raise `ApiError` for a `TransformAmiVersion` if the instance has no GPU: all versions are for GPUs."""
    if version and "capability" not in _family(instance_type):
        raise invalid(f"TransformAmiVersion {version} is not supported for instance type {instance_type}.")


def check_multi_model(instance_type: str) -> None:
    """Raise `ApiError` if multi-model endpoints do not support the instance's accelerator."""
    family = _family(instance_type)
    if ("capability" in family or "accelerator" in family) and not family.get("multi_model"):
        raise invalid(f"Multi-model endpoints do not support instance type {instance_type}.")
