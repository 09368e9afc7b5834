"""Starts a measurement in the Python environment of these benchmarks, with the training image's code on its
path."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from tooling import envs
from tooling.containers import CONTAINERS, import_path

IMAGE = CONTAINERS / "portfolio_rl" / "train"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def run(module: str, options: Mapping[str, Any]) -> int:
    """Run `benchmarks.portfolio_rl.<module>` on one thread with these options; return its exit code."""
    arguments: list[str] = []
    for name, value in options.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            arguments += [f"--{name.replace('_', '-')}", *map(str, values)]
    python = envs.environment("benchmarks-portfolio_rl")
    paths = os.pathsep.join((str(envs.ROOT), import_path(IMAGE)))
    settings = {"PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(envs.home() / "numba")}
    settings["PYTHONWARNINGS"] = "ignore"  # PyTorch's ONNX exporter emits warnings about its own code
    command = [str(python), "-m", f"benchmarks.portfolio_rl.{module}", *arguments]
    environment = os.environ | dict.fromkeys(THREADS, "1") | settings
    return subprocess.run(command, cwd=envs.ROOT, env=environment).returncode
