"""Check that PyTorch uses the device that the deployment pays for."""

from __future__ import annotations

import subprocess
import sys

from toolkit.failure import FatalError

PROBE = """
import torch
print("cuda" if torch.cuda.is_available() else "cpu", torch.version.cuda)
"""


def check(wanted: str) -> None:
    """Raise `FatalError` unless PyTorch finds the device `wanted`, which is `cuda`, `cpu` or empty for any.

    Without a GPU, or with a driver that is too old for the image's CUDA, PyTorch would serve from the CPU.
    PyTorch is imported in a separate process, because this process does not need it.
    """
    if not wanted:
        return
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    if probe.returncode:
        raise FatalError(f"could not import PyTorch: {_last_line(probe.stderr)}")
    found, cuda = probe.stdout.split()
    if found != wanted:
        warning = " ".join(line.strip() for line in probe.stderr.splitlines() if "CUDA" in line)
        raise FatalError(
            f"PyTorch must find the device of GROUNDPLAN_DEVICE, {wanted!r}, got {found!r}"
            f" (PyTorch for CUDA {cuda})" + (f": {warning}" if warning else "")
        )


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no reason given")
