"""What a container answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """A container's answer. `latency` is the seconds that the container took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    latency: float
