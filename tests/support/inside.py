"""Tests that run with the packages of an image: `inside/` of an architecture's container tests."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

NEVER = 900
"""Seconds after which running tests are considered stuck."""
THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run(python: Path, import_path: str, folder: Path, **variables: str) -> None:
    """Run a folder of tests with the Python of an image. Raises AssertionError with the end of its output.

    All tests share one process, because importing the image's packages takes seconds.

    :param import_path: PYTHONPATH of the image's program
    :param variables: environment variables of the image
    """
    # pytest is a package of this environment, which comes after the image's packages on the path
    program = (
        f"import sys; sys.path[:0] = {import_path.split(os.pathsep)!r};"
        f"sys.path.append({sysconfig.get_path('purelib')!r});"
        "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={folder}",
        f"--confcutdir={folder}",
        "-c",
        os.devnull,
    ]
    environment = os.environ | dict.fromkeys(THREADS, "1") | variables
    done = subprocess.run(
        [python, "-c", program, *options, str(folder)],
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=NEVER,
    )
    assert done.returncode == 0, done.stdout[-6000:]
