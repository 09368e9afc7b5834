"""SageMaker's side of the container: its folders, its hosts, its failure file."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .failure import Failure, scrub

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
MODEL = BASE / "model"
CHECKPOINTS = BASE / "checkpoints"
OUTPUT = BASE / "output" / "data"
FAILURE = BASE / "output" / "failure"
CHANNELS = BASE / "input" / "data"
CONFIG = BASE / "input" / "config"


@dataclass(frozen=True)
class Cluster:
    """The hosts of the job in sorted order, and which of them this one is."""

    hosts: tuple[str, ...]
    host: str

    @property
    def rank(self) -> int:
        return self.hosts.index(self.host)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def size(self) -> int:
        return len(self.hosts)


def cluster() -> Cluster:
    """From `resourceconfig.json`; a container run by hand without that file is a cluster of one."""
    path = CONFIG / "resourceconfig.json"
    if not path.exists():
        return Cluster(("algo-1",), "algo-1")
    found = json.loads(path.read_text())
    return Cluster(tuple(sorted(found["hosts"])), found["current_host"])


def hyperparameters() -> dict[str, str]:
    path = CONFIG / "hyperparameters.json"
    return json.loads(path.read_text()) if path.exists() else {}


def unpacked(channel: str, into: Path) -> Path:
    """The model in a channel, which holds either a `model.tar.gz` or the files themselves."""
    folder = CHANNELS / channel
    for archive in sorted(folder.rglob("*.tar.gz")):
        into.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as packed:
            packed.extractall(into, filter="data")
        return into
    if not folder.is_dir() or not any(folder.iterdir()):
        raise Failure(f"channel {channel} is empty: it takes a model.tar.gz")
    return folder


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all: a reader never sees half a file."""
    write_bytes(path, json.dumps(value, indent=1).encode())


def write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def write_failure(reason: object) -> None:
    """The job's FailureReason, unless a more telling one is already there."""
    if not FAILURE.exists():
        FAILURE.parent.mkdir(parents=True, exist_ok=True)
        FAILURE.write_text(scrub(reason)[:1024])
