"""The settings of `notes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from settings.base import ArchitectureSettings


class Notes(ArchitectureSettings):
    """The settings of a deployment of `notes`."""

    ENVIRONMENTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"prod": {"retain": True}}

    longest: int = Field(default=100, ge=1, le=10_000, description="a whole number from 1 to 10000")
