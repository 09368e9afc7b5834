"""Jobs of the image `subset_training`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.image_jobs import NEVER, Job, addresses, environment, prepared
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


def start_hosts(bases: Sequence[Path], python: Path) -> list[tuple[str, subprocess.Popen[bytes]]]:
    """Start a job on as many hosts as there are `bases`. Return the hosts' names and processes in the order
    of the ranks."""
    names = addresses(len(bases))
    for name, base in zip(names, bases, strict=True):
        # reversed, because SageMaker does not guarantee the order of the hosts
        cluster = {"current_host": name, "hosts": names[::-1], "network_interface_name": "lo"}
        (base / "input" / "config" / "resourceconfig.json").write_text(json.dumps(cluster))
    return [(name, start(base, python)) for name, base in zip(names, bases, strict=True)]


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
