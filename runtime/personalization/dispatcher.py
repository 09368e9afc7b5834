"""Lambda: packs waiting requests into training jobs. Any event makes it look at the queue."""

from __future__ import annotations

import time
from typing import Any

from personalization.aws import backend
from personalization.dispatch import drain
from personalization.observe import logger, metrics

SPARE_SECONDS = 15
"""What one more job may take."""


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> None:
    drain(backend(), context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS, time.sleep)
