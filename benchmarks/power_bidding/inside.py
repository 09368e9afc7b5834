"""Starts a measurement in the Python environment of these benchmarks, with the training image's code on its
path."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from tooling import envs
from tooling.containers import CONTAINERS, import_path

IMAGE = CONTAINERS / "power_bidding" / "model"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(module: str, options: Mapping[str, Any]) -> int:
    """Run `benchmarks.power_bidding.<module>` on one thread with these options; return its exit code."""
    arguments: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(option)
        elif value is not None and value is not False:
            arguments += [option, *map(str, value if isinstance(value, list) else [value])]
    python = envs.environment("benchmarks-power_bidding")
    settings = {"PYTHONPATH": os.pathsep.join((str(envs.ROOT), import_path(IMAGE)))}
    command = [str(python), "-m", f"benchmarks.power_bidding.{module}", *arguments]
    environment = os.environ | dict.fromkeys(THREADS, "1") | settings
    return subprocess.run(command, cwd=envs.ROOT, env=environment).returncode
