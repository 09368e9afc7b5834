"""SageMaker's side of the container: its folders, its hosts, its failure file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
CHECKPOINTS = BASE / "checkpoints"
FAILURE = BASE / "output" / "failure"
CHANNELS = BASE / "input" / "data"
CONFIG = BASE / "input" / "config"


@dataclass(frozen=True)
class Cluster:
    """How many hosts the job has, and which of them, in sorted order, this one is."""

    size: int
    rank: int


def cluster() -> Cluster:
    """From `resourceconfig.json`; a container run by hand without that file is a cluster of one."""
    path = CONFIG / "resourceconfig.json"
    if not path.exists():
        return Cluster(1, 0)
    found = json.loads(path.read_text())
    return Cluster(len(found["hosts"]), sorted(found["hosts"]).index(found["current_host"]))


def hyperparameters() -> dict[str, str]:
    path = CONFIG / "hyperparameters.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all: a reader, or a copy to S3 made meanwhile, never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=1))
    part.replace(path)


def write_failure(reason: object) -> None:
    """The job's FailureReason, unless a more telling one is already there."""
    if not FAILURE.exists():
        FAILURE.parent.mkdir(parents=True, exist_ok=True)
        FAILURE.write_text(" ".join(str(reason).split())[:1024])
