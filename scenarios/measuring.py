"""Benchmarks of a scenario, in separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scenarios import Progress, ScenarioError

ROOT = Path(__file__).resolve().parents[1]


def measure(module: str, path: Path, progress: Progress, *arguments: str) -> dict[str, Any]:
    """Run `python -m MODULE --json PATH ARGUMENTS`, with its output as progress messages; return its results.

    Raises `ScenarioError` with the end of the output if the command fails.
    """
    path = path.resolve()
    with subprocess.Popen(
        [sys.executable, "-m", module, "--json", str(path), *arguments],
        cwd=ROOT,
        # with active waiting, OpenMP's threads take the CPU from other processes
        env={"OMP_WAIT_POLICY": "PASSIVE"} | os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            last = list(_told(process, progress))[-5:]
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise ScenarioError(f"{module} failed: " + " … ".join(last))
    return json.loads(path.read_text())


def _told(process: subprocess.Popen, progress: Progress) -> Iterator[str]:
    for line in process.stdout or ():
        if line.strip():
            progress(line.strip())
            yield line.strip()
