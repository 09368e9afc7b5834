"""Jobs of the image `label_quality`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.image_jobs import NEVER, Job, environment
from tooling.containers import CONTAINERS

LABEL_QUALITY = CONTAINERS / "data_centric" / "label_quality"
PREFIX = "s3://zoo/pictures/"


def prepared(base: Path, files: Mapping[str, bytes]) -> Path:
    """Write the inputs and the configuration of a processing job, and return `base`.

    :param files: contents by path below `processing`
    """
    inputs = [{"InputName": "pictures", "S3Input": {"S3Uri": PREFIX}}]
    (base / "config").mkdir(parents=True)
    (base / "config" / "processingjobconfig.json").write_text(json.dumps({"ProcessingInputs": inputs}))
    for name, content in files.items():
        path = base / "processing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return base


def run(base: Path, python: Path, *arguments: str) -> Job:
    """Run a job to its end, with `base` as its `/opt/ml`."""
    done = subprocess.run(
        [python, "-m", "label_quality", *arguments],
        env=environment(LABEL_QUALITY, base) | {"OMP_NUM_THREADS": "1"},
        cwd=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=NEVER,
    )
    return Job(base, done.returncode, done.stdout)
