"""The image `subset_training` as SageMaker runs it, without SageMaker: `/opt/ml` is a folder."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tooling.containers import CONTAINERS, import_path

SUBSET_TRAINING = CONTAINERS / "data_centric" / "subset_training"
NEVER = 300
"""A job that runs for longer, in seconds, is considered stuck."""


@dataclass(frozen=True)
class Job:
    """A training job that has ended."""

    base: Path
    code: int
    log: str

    @property
    def failure(self) -> str:
        path = self.base / "output" / "failure"
        return path.read_text() if path.exists() else ""

    def json(self, path: str) -> Any:
        return json.loads((self.base / path).read_text())


def prepared(base: Path, hyperparameters: dict[str, str], channels: dict[str, dict[str, bytes]]) -> Path:
    """Write hyperparameters and the files of channels as SageMaker does, and return `base`."""
    (base / "input" / "config").mkdir(parents=True, exist_ok=True)
    (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    for channel, files in channels.items():
        for name, content in files.items():
            path = base / "input" / "data" / channel / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return base


def start(base: Path, python: Path) -> subprocess.Popen[bytes]:
    """Start a job with its input in `base`. It logs to `base`/log."""
    system = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    own = {"PYTHONPATH": import_path(SUBSET_TRAINING), "SAGEMAKER_BASE_DIR": str(base)}
    own |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    with (base / "log").open("ab") as log:
        return subprocess.Popen(
            [python, "-m", "subset_training", "train"],
            env=system | own,
            cwd=base,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def ended(base: Path, process: subprocess.Popen[bytes]) -> Job:
    try:
        code = process.wait(NEVER)
    finally:
        process.kill()
    return Job(base, code, (base / "log").read_text())


def train(base: Path, python: Path, hyperparameters: dict[str, str], **channels: dict[str, bytes]) -> Job:
    """Run a job to its end.

    :param channels: for each channel, file contents by name
    """
    return ended(base, start(prepared(base, hyperparameters, channels), python))
