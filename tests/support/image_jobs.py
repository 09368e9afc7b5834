"""Run training images as SageMaker does, without SageMaker: a folder replaces `/opt/ml`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.sagemaker.instances import LoopbackAddress, reserve
from tooling.containers import import_path

NEVER = 300
"""Seconds after which a job is considered stuck."""

_reserved: list[LoopbackAddress] = []
"""Addresses that stay reserved until this process ends, because servers of earlier tests may still listen."""


def addresses(count: int) -> list[str]:
    """Reserve loopback addresses for the hosts of a job; return them sorted by rank.

    No other process gets them.
    """
    new = reserve(count)
    _reserved.extend(new)
    return sorted(address.name for address in new)


@dataclass
class Job:
    """A job that has ended."""

    base: Path
    code: int
    log: str
    files: list[str] = field(default_factory=list)
    """Files that a container wrote outside of `/opt/ml`."""

    @property
    def failure(self) -> str:
        path = self.base / "output" / "failure"
        return path.read_text() if path.exists() else ""

    def text(self, path: str) -> str:
        return (self.base / path).read_text()

    def json(self, path: str) -> Any:
        return json.loads(self.text(path))


def environment(image: Path, base: Path) -> dict[str, str]:
    """Return the environment variables of a process of an image, with `base` as its `/opt/ml`."""
    system = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    own = {"PYTHONPATH": import_path(image), "SAGEMAKER_BASE_DIR": str(base), "PYTHONUNBUFFERED": "1"}
    return system | own | {"PYTHONDONTWRITEBYTECODE": "1"}


def prepared(
    base: Path, hyperparameters: dict[str, str], channels: Mapping[str, Mapping[str, str | bytes]]
) -> Path:
    """Write hyperparameters and channels as SageMaker does, and return `base`.

    :param channels: for each channel, file contents by name
    """
    (base / "input" / "config").mkdir(parents=True, exist_ok=True)
    (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    for channel, files in channels.items():
        for name, content in files.items():
            path = base / "input" / "data" / channel / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return base
