"""The allowed instance types of each architecture, from the families in `instance_types.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

CUDA = "13.0"
"""CUDA version of the GPU images, as in `containers/bases.toml`."""
TABLE = Path(__file__).resolve().parents[1] / "constructs" / "groundplan" / "instance_types.toml"
INSTANCE_TYPES: dict[str, dict[str, Any]] = tomllib.loads(TABLE.read_text())


class InstanceUse:
    """The instance types that SageMaker offers for one use, if the image supports their family.

    `usable` returns whether the image supports a family, given its row in `instance_types.toml`.
    """

    def __init__(self, use: str, usable: Callable[[dict[str, Any]], bool], what: str, example: str):
        self.sizes: dict[str, list[str]] = {
            name: family[use].split()
            for name, family in sorted(INSTANCE_TYPES["families"].items())
            if use in family and "arm" not in family and usable(family)
        }
        self.description = f"{what}: of the families {', '.join(self.sizes)}, such as {example}"

    def __call__(self, given: str) -> str:
        prefix, family, size = (*given.split("."), "", "", "")[:3]
        sizes = self.sizes.get(family) if prefix == "ml" and given.count(".") <= 2 else None
        if sizes and size in sizes:
            return given
        allowed = f"ml.{family} in the sizes {', '.join(sizes)}" if sizes else self.description
        raise PydanticCustomError("instance_type", "{allowed}", {"allowed": allowed})


def cpu(family: Mapping[str, Any]) -> bool:
    """Return whether the family has neither a GPU nor another accelerator."""
    return "capability" not in family and "accelerator" not in family


def cuda(family: Mapping[str, Any]) -> bool:
    """Return whether the family's GPUs support the images' CUDA version."""
    return float(family.get("capability", 0)) >= float(INSTANCE_TYPES["cuda"][CUDA]["capability"])


GPU_TRAINING_INSTANCES = InstanceUse(
    "training",
    lambda family: cpu(family) or cuda(family),
    f"an x86 instance type for SageMaker training, without a GPU or with one that CUDA {CUDA} supports",
    "ml.g5.2xlarge",
)
"""For training images that use a GPU if there is one."""
