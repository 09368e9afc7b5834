"""SIGTERM: SageMaker takes a spot instance back, or someone stops the job; 120 seconds are left."""

from __future__ import annotations

import signal
from typing import Any

from .failure import Stopped


class Interruption:
    """Remembers that SIGTERM came until there is a good place to stop at."""

    def __init__(self) -> None:
        self.wanted = False
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, *_: Any) -> None:
        self.wanted = True

    def check(self) -> None:
        """Raises `Stopped` once SIGTERM has come."""
        if self.wanted:
            raise Stopped
