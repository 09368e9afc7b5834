"""Handling of SIGTERM, which SageMaker sends when it reclaims a spot instance or stops a job.

SIGKILL follows after 120 seconds.
"""

from __future__ import annotations

import signal
from typing import Any

from .failure import Stopped


class Interruption:
    """Records SIGTERM until the program reaches a point where it can stop."""

    def __init__(self) -> None:
        self.wanted = False
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, *_: Any) -> None:
        self.wanted = True

    def check(self) -> None:
        """Raise `Stopped` if SIGTERM was received."""
        if self.wanted:
            raise Stopped
