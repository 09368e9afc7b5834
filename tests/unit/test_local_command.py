"""`python -m local`, without a running cloud."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tooling import envs


def test_env_fails_in_the_shell_that_evaluates_its_output(tmp_path: Path) -> None:
    # given
    command = [sys.executable, "-m", "local", "env", "--home", str(tmp_path / "cloud")]
    # when
    done = subprocess.run(command, cwd=envs.ROOT, capture_output=True, text=True)
    evaluated = subprocess.run(["bash", "-c", done.stdout], env={})
    # then
    assert "is not running" in done.stderr
    assert done.returncode == evaluated.returncode == 1
