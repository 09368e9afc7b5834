"""The stop switch: a parameter in Systems Manager that allows trades only while its value is `go`.

It is read at most once every `FRESH_SECONDS` seconds. If it cannot be read, all trades are forbidden, because
it is unknown whether trading is allowed.
"""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
GO, STOP = "go", "stop"


class Switch:
    """The parameter named `name`; without a name, trading is always allowed."""

    def __init__(self, name: str):
        self.name = name
        self._lock = threading.Lock()
        self._read_at, self._reason = -FRESH_SECONDS, ""
        if name:
            import boto3  # the import takes half a second, and is not needed without a switch
            from botocore.config import Config

            config = Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 2})
            self._ssm = boto3.client("ssm", config=config)

    def reason(self) -> str:
        """Return why trades are forbidden now; an empty string if they are allowed."""
        if not self.name:
            return ""
        with self._lock:
            if time.monotonic() - self._read_at >= FRESH_SECONDS:
                self._reason, self._read_at = self._read(), time.monotonic()
            return self._reason

    def _read(self) -> str:
        try:
            value = self._ssm.get_parameter(Name=self.name)["Parameter"]["Value"]
        except Exception as error:  # after any error, trading must stop
            log.error("the stop switch %s cannot be read: %s", self.name, error)
            return f"the stop switch {self.name} cannot be read"
        return "" if value == GO else f"no trades: the stop switch {self.name} must be {GO}, got {value[:20]}"
