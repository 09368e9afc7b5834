"""Logging to stdout, from which SageMaker reads the log and the metrics."""

from __future__ import annotations

import logging
import sys

from .failure import redact


class _Formatter(logging.Formatter):
    """Formatter that redacts messages and tracebacks, including messages of libraries."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def log_to_stdout(package: str) -> None:
    """Write log records to stdout as `LEVEL message`: those of `package` from INFO, of libraries from
    WARNING."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(package).setLevel(logging.INFO)
