"""Size and import time of the serving and training images."""

from __future__ import annotations

import os
import statistics
import subprocess

from local.images.build import build
from local.images.store import Image
from scenarios import Progress
from tooling.containers import CONTAINERS, import_path

MEASURED = 3
"""Number of processes per measurement"""
PROGRAM = "power_forecaster.bidding, power_forecaster.trained"
"""Modules needed to answer a request, in either image"""
IMAGES = {"serve": f"{PROGRAM}, flask, waitress", "model": f"{PROGRAM}, tensorflow, lightgbm"}
"""Images and the modules to import. `model` is the training image."""


def images(say: Progress) -> dict[str, float]:
    """Return the sizes of both images, and the processor time of imports in each."""
    found: dict[str, float] = {}
    for name, modules in IMAGES.items():
        image = build(CONTAINERS, CONTAINERS / "power_bidding" / name / "Dockerfile", say=say)
        suffix = "" if name == "serve" else "_training"
        found[f"image_megabytes{suffix}"] = megabytes(image)
        found[f"import_cpu_seconds{suffix}"] = import_seconds(image, modules)
    return found


def megabytes(image: Image) -> float:
    """Return the size of an image's files and packages in MB (10^6 bytes)."""
    packages = (image.folder / "env").resolve()
    files = (path for folder in (image.folder, packages) for path in folder.rglob("*"))
    return sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink()) / 1e6


def import_seconds(image: Image, modules: str) -> float:
    """Return the median processor time of importing modules in a new process of the image."""
    program = (
        f"import time; begun = time.process_time(); import {modules}; print(time.process_time() - begun)"
    )
    path = {"PYTHONPATH": import_path(CONTAINERS / "power_bidding" / "model"), "OMP_NUM_THREADS": "1"}
    command = [str(image.folder / "env" / "bin" / "python"), "-c", program]
    seconds = []
    for _ in range(MEASURED):
        done = subprocess.run(command, env=os.environ | path, check=True, capture_output=True, text=True)
        seconds.append(float(done.stdout.split()[-1]))
    return statistics.median(seconds)
