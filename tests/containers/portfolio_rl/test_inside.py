"""The tests in `inside/`, run with the packages of the training image."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.support.portfolio_rl.images import TRAIN
from tooling.containers import import_path

INSIDE = Path(__file__).parent / "inside"
NEVER = 900


@pytest.mark.timeout(NEVER)
@pytest.mark.parametrize("name", sorted(path.name for path in INSIDE.glob("test_*.py")))
def test_with_the_images_packages(name: str, trainer: Path) -> None:
    # pytest itself is this environment's: behind the image's own packages on the path
    program = (
        f"import sys; sys.path[:0] = {import_path(TRAIN).split(os.pathsep)!r};"
        f"sys.path.append({sysconfig.get_path('purelib')!r});"
        "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={INSIDE}",
        f"--confcutdir={INSIDE}",
        "-c",
        os.devnull,
    ]
    one = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [trainer, "-c", program, *options, str(INSIDE / name)],
        env=os.environ | one | {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=NEVER,
    )
    assert done.returncode == 0, done.stdout[-6000:]
