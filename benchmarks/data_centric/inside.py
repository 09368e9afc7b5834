"""Starts a measurement in the Python environment of these benchmarks, with the code of the container images
on the import path."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from tooling import envs
from tooling.containers import CONTAINERS, import_path

IMAGES = [CONTAINERS / "data_centric" / name for name in ("label_quality", "subset_training")]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(module: str, options: Mapping[str, Any], threads: int = 1) -> int:
    """Run a module of `benchmarks.data_centric` in the benchmarks' environment. Return its exit code."""
    arguments: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(option)
        elif value is not None and value is not False and value != []:  # 0 is a valid value
            arguments += [option, *map(str, value if isinstance(value, list) else [value])]
    python = envs.environment("benchmarks-data_centric")
    settings = {"PYTHONPATH": os.pathsep.join([str(envs.ROOT), *map(import_path, IMAGES)])}
    command = [str(python), "-m", f"benchmarks.data_centric.{module}", *arguments]
    environment = os.environ | dict.fromkeys(THREADS, str(threads)) | settings
    return subprocess.run(command, cwd=envs.ROOT, env=environment).returncode
