"""Container images without a container engine. A built image is a folder, a Python environment and a
command."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def launcher(home: Path, python: Path) -> Path:
    """Write the program for the variable `CDK_DOCKER` to a file, and return the file's path.

    The program stores images below the folder that the variable GROUNDPLAN_HOME names.

    :param home: folder of the file
    :param python: Python of the environment "cloud"
    """
    run = f'PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(str(python))} -m local.images "$@"'
    script = f"#!/bin/sh\n{run}\n"
    program = home / "docker"
    if not program.exists() or program.read_text() != script:
        home.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=home, prefix=".docker-")
        with os.fdopen(descriptor, "w") as stream:
            stream.write(script)
        Path(draft).chmod(0o755)
        Path(draft).replace(program)
    return program
