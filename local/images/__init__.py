"""Container images without an engine: a Dockerfile becomes a folder, an environment and a command."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def launcher(home: Path, python: Path) -> Path:
    """Write the program that `CDK_DOCKER` names into the folder `home`, and return its path.

    `python` is the Python of the environment "cloud". Where images are kept is GROUNDPLAN_HOME's to say
    when the program runs.
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
