"""Tests that run with the packages of an image: `inside/` of an architecture's container tests.

This command runs some of these tests, with options of pytest:

    .groundplan/envs/app/bin/python -m tests.support.inside ARCHITECTURE/IMAGE -k NAME

The first argument is the image's folder in `containers/`. Its tests are in `inside_IMAGE/`, or else in
`inside/`, below `tests/containers/ARCHITECTURE/`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tooling import envs
from tooling.containers import CONTAINERS, import_path

TESTS = envs.ROOT / "tests" / "containers"
NEVER = 900
"""Seconds after which running tests are considered stuck."""
THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run(python: Path, import_path: str, folder: Path, **variables: str) -> None:
    """Run a folder of tests with the Python of an image. If a test fails, raise AssertionError with the end
    of pytest's output.

    All tests share one process, because importing the image's packages takes seconds.

    :param import_path: PYTHONPATH of the image's program
    :param variables: environment variables of the image
    """
    done = _pytest(
        python,
        import_path,
        folder,
        [],
        variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=NEVER,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def main(arguments: Sequence[str]) -> int:
    """Run tests of an image with options of pytest, and return pytest's exit code."""
    images = {
        path.parent.relative_to(CONTAINERS).as_posix(): path.parent
        for path in sorted(CONTAINERS.glob("*/*/Dockerfile"))
        if any((TESTS / path.parts[-3]).glob("inside*"))
    }
    image = images.get(arguments[0]) if arguments else None
    if image is None:
        print(
            f"the first argument must be one of {', '.join(images)}, got {' '.join(arguments[:1]) or 'none'}",
            file=sys.stderr,
        )
        return 2
    from local.images.build import build  # needs the environment `app`

    built = build(CONTAINERS, image / "Dockerfile")
    variables = dict(each.split("=", 1) for each in built.config["Env"])
    # Numba's compiled functions are kept for the next call, outside of the sources
    variables = {name: value for name, value in variables.items() if name.startswith("NUMBA_")}
    variables["NUMBA_CACHE_DIR"] = str(envs.home() / "numba")
    python = built.folder / "env" / "bin" / "python"
    return _pytest(python, import_path(image), tests_of(image), arguments[1:], variables).returncode


def tests_of(image: Path) -> Path:
    """Return the folder of an image's tests."""
    own = TESTS / image.parent.name / f"inside_{image.name}"
    return own if own.exists() else own.with_name("inside")


def _pytest(
    python: Path,
    import_path: str,
    folder: Path,
    arguments: Sequence[str],
    variables: dict[str, str],
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    # pytest comes from the environment of this process, whose packages follow those of the image in
    # `sys.path`
    program = (
        f"import sys; sys.path[:0] = {import_path.split(os.pathsep)!r};"
        f"sys.path.append({sysconfig.get_path('purelib')!r});"
        "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    fixed = [
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={folder}",
        f"--confcutdir={folder}",
        "-c",
        os.devnull,
    ]
    environment = os.environ | dict.fromkeys(THREADS, "1") | variables
    return subprocess.run(
        [python, "-c", program, *fixed, str(folder), *arguments],
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""},
        **options,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
