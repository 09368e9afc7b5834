"""The Lambda layer with the dependencies of the code in `runtime/`, built from locked requirements.

    python3.11 -m tooling.layers     # make it, print its folder

Synthesis reads the folder and uses no network. The folder is the same on every machine, so the template and
the layer's version change only with the lock file and with the choices in this module. The folder contains
each compiled module for every Python version that may run it, under different file names.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tooling import envs

REQUIREMENTS = envs.ROOT / "runtime" / "layer" / "requirements.txt"
FOLDER = envs.ROOT / ".groundplan" / "layers" / "runtime"
"""The folder from which the stacks read the layer."""
PLATFORMS = (
    ("3.14", "aarch64-manylinux_2_28"),
    ("3.11", "aarch64-manylinux_2_28"),
    ("3.11", "x86_64-manylinux_2_28"),
)
"""Python versions and platforms on which the runtime's code runs and is tested."""
UNUSED = (
    *("bin", ".lock", "PIL/_avif.*", "PIL/_imagingtk.*", "pillow.libs/libavif-*"),
    *(f"chalice/{name}" for name in ("api", "cdk", "cli", "deploy", "templates", "vendored", "*.json")),
    *(f"chalice/{name}.py" for name in ("awsclient", "config", "invoke", "local", "logs", "package")),
    *(f"chalice/{name}.py" for name in ("pipeline", "policy", "test", "utils")),
)
"""Files to remove: programs, the largest unused decoders, and chalice's deployment and test modules."""
OF_ONE_INSTALLATION = ("RECORD", "WHEEL", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")
"""Files in `*.dist-info` that describe an installation instead of the package."""


def layer() -> Path:
    """Return the layer's folder, with `python/` in it. It is made first if it is absent or out of date.

    Raises `subprocess.CalledProcessError` if the installer fails; an existing folder then remains.
    """
    stamp = FOLDER.with_suffix(".stamp")
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    with envs.locked(envs.home() / "locks" / "layer"):
        if stamp.exists() and stamp.read_text() == key and FOLDER.is_dir():
            return FOLDER
        started = time.monotonic()
        envs.say("  installing the Lambda layer from runtime/layer/requirements.txt")
        FOLDER.parent.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER.parent) as folder:
            made = Path(folder, "layer")
            for number, (python, platform) in enumerate(PLATFORMS):
                one = Path(folder, str(number))
                _install(one, python, platform)
                _tidy(one)
                shutil.copytree(one, made / "python", dirs_exist_ok=True)
            shutil.rmtree(FOLDER, ignore_errors=True)
            made.rename(FOLDER)
        stamp.write_text(key)
        envs.say(f"  installed the Lambda layer in {time.monotonic() - started:.0f} s")
    return FOLDER


def _install(target: Path, python: str, platform: str) -> None:
    options = ["--quiet", "--no-progress", "--no-deps", "--only-binary", ":all:", "--target", str(target)]
    options += ["--python-version", python, "--python-platform", platform]
    subprocess.run(
        [str(envs.uv()), "pip", "install", *options, "-r", str(REQUIREMENTS)],
        check=True,
        env=envs.pip_settings() | os.environ,
    )


def _tidy(folder: Path) -> None:
    """Remove files that differ between installations, and modules that nothing imports."""
    for path in [found for pattern in UNUSED for found in folder.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in folder.glob("*.dist-info/*"):
        if path.name in OF_ONE_INSTALLATION:
            path.unlink()


if __name__ == "__main__":
    print(layer())
