"""SageMaker's container contract: folders under /opt/ml, hosts, hyperparameters, failure file.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .failure import scrub

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
MODEL = BASE / "model"
CHECKPOINTS = BASE / "checkpoints"
OUTPUT = BASE / "output" / "data"
FAILURE = BASE / "output" / "failure"
PROCESSING = BASE / "processing"
"""Folder of a processing job's inputs and outputs, by this project's convention."""
MESSAGE = BASE / "output" / "message"
"""File with the exit message of a processing job."""
CHANNELS = BASE / "input" / "data"
CONFIG = BASE / "input" / "config"

LONGEST_REASON = 1024
"""Maximum length of a FailureReason or ExitMessage, in characters. SageMaker truncates longer texts."""

MARKERS = (".sagemaker-uploading", ".sagemaker-uploaded")
"""Suffixes of the marker files that SageMaker creates next to each checkpoint file: one while it uploads the
file, one afterwards."""


@dataclass(frozen=True)
class Cluster:
    """The hosts of the job in sorted order, and the current host."""

    hosts: tuple[str, ...]
    host: str
    interface: str = ""
    """Name of the network interface between the hosts; empty if unknown"""

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
    """Read `resourceconfig.json`. Without the file (outside of SageMaker), the cluster has one host."""
    path = CONFIG / "resourceconfig.json"
    if not path.exists():
        return Cluster(("algo-1",), "algo-1")
    found = json.loads(path.read_text())
    hosts, interface = tuple(sorted(found["hosts"])), found.get("network_interface_name", "")
    return Cluster(hosts, found["current_host"], interface)


def hyperparameters() -> dict[str, str]:
    """Read `hyperparameters.json`. Without the file, return no hyperparameters."""
    path = CONFIG / "hyperparameters.json"
    return json.loads(path.read_text()) if path.exists() else {}


def files(folder: Path) -> list[Path]:
    """Return the files below a checkpoint folder, sorted, without SageMaker's marker files."""
    return [path for path in sorted(folder.rglob("*")) if not path.name.endswith(MARKERS) and path.is_file()]


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically: SageMaker never uploads a partial file to S3."""
    write_bytes(path, json.dumps(value, indent=1).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, through a temporary file in the same folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def write_failure(reason: object) -> None:
    """Write the job's failure file, unless it exists: later failures usually follow from the first one."""
    if not FAILURE.exists():
        FAILURE.parent.mkdir(parents=True, exist_ok=True)
        FAILURE.write_text(scrub(reason)[:LONGEST_REASON])


def write_message(reason: object) -> None:
    """Write the exit message of a processing job."""
    write_bytes(MESSAGE, scrub(reason).encode()[:LONGEST_REASON].decode(errors="ignore").encode())


def source_uri(name: str) -> str:
    """Return the `S3Uri` of the processing job's input `name`; "" if there is none.

    https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
    """
    path = BASE / "config" / "processingjobconfig.json"
    inputs = json.loads(path.read_text()).get("ProcessingInputs") or [] if path.exists() else []
    uris = {each["InputName"]: each.get("S3Input", {}).get("S3Uri", "") for each in inputs}
    return uris.get(name, "")
