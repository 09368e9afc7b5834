"""Response of a container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """A container's response. `latency` is its duration in seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    latency: float
