"""Wait for conditions."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 120.0
"""Timeout in seconds; long, because the machine may be busy."""


def until(
    condition: Callable[[], Any],
    what: str = "the condition",
    seconds: float = PATIENCE,
    process: subprocess.Popen[Any] | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Any:
    """Poll `condition` until its value is true, and return the value. The interval between polls grows.

    Fails after `seconds`, or when `process` ends. `meanwhile` is called after each poll.
    """
    begun = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - begun
        assert process is None or process.poll() is None, f"exit code {process.poll()} before: {what}"
        assert waited < seconds, f"timed out after {waited:.0f} s: {what}"
        meanwhile()
        time.sleep(min(0.02 + waited / 50, 0.1))
    return found
