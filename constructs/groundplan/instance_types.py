"""Facts about SageMaker's instance types, from `instance_types.toml`."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any


@functools.cache
def table() -> dict[str, Any]:
    """Return the content of `instance_types.toml`: `families` by name, and `cuda` by version."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text())


def family(instance_type: str) -> dict[str, Any]:
    """Return the facts about the family of an instance type such as `ml.g5.xlarge`.

    Raises `ValueError` for a family that is not in `instance_types.toml`.
    """
    name = instance_type.removeprefix("ml.").partition(".")[0]
    found = table()["families"].get(name)
    if found is None:
        raise ValueError(f"{instance_type} must be a SageMaker instance type such as ml.g5.xlarge")
    return found


def has_local_disks(instance_type: str) -> bool:
    """Return whether instances of this type have local disks. SageMaker then accepts no `VolumeKmsKeyId`."""
    return family(instance_type).get("disks", False)


def device(instance_type: str) -> str:
    """Return the PyTorch device of a container on the instance: `cuda` or `cpu`."""
    return "cuda" if "capability" in family(instance_type) else "cpu"


def inference_ami(instance_type: str, cuda: str) -> str | None:
    """Return the `InferenceAmiVersion` with a driver for an image with this CUDA version, such as `13.0`.

    Returns None if the instance has no GPU. Raises `ValueError` if no driver is known for the CUDA version,
    or if the version does not support the instance's GPUs.
    """
    capability = family(instance_type).get("capability")
    if capability is None:
        return None
    needed = table()["cuda"].get(cuda)
    if needed is None:
        known = ", ".join(table()["cuda"])
        raise ValueError(f"cuda must be one of {known} on {instance_type}, got {cuda!r}")
    if float(capability) < float(needed["capability"]):
        raise ValueError(
            f"CUDA {cuda} needs GPUs of compute capability {needed['capability']} or more,"
            f" {instance_type} has {capability}"
        )
    return needed["inference_ami"]
