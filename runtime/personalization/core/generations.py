"""The status of a generation, as stored and as shown."""

from __future__ import annotations

from personalization.core.rows import GenerationRow
from personalization.core.times import seconds

RUNNING, DONE, FAILED = "RUNNING", "DONE", "FAILED"
RUNNING_SECONDS = 60
"""If a generation is RUNNING for longer, its Lambda function was killed: the function's timeout is
shorter."""


def shown_status(generation: GenerationRow, now: float) -> str:
    """Return the status; FAILED if the function was killed, which leaves RUNNING in the table."""
    late = abs(now - seconds(generation["updated"])) > RUNNING_SECONDS  # a clock may jump either way
    return FAILED if generation["status"] == RUNNING and late else generation["status"]
