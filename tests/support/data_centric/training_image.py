"""Jobs of the image `subset_training`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.image_jobs import NEVER, Job, environment, prepared
from tooling.containers import CONTAINERS

SUBSET_TRAINING = CONTAINERS / "data_centric" / "subset_training"


def start(base: Path, python: Path) -> subprocess.Popen[bytes]:
    """Start a job with its input in `base`. It logs to `base`/log."""
    with (base / "log").open("ab") as log:
        return subprocess.Popen(
            [python, "-m", "subset_training", "train"],
            env=environment(SUBSET_TRAINING, base),
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
