"""Run when a model is queued, and every minute: pack waiting requests into training jobs."""

from __future__ import annotations

import time

from aws_lambda_powertools.utilities.typing import LambdaContext

from personalization.aws.environment import backend
from personalization.aws.observe import logger, metrics
from personalization.core.dispatch import drain

SPARE_SECONDS = 15
"""Time that is reserved at the end of an invocation to create one more job."""


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: object, context: LambdaContext) -> None:
    drain(backend(), context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS, time.sleep)
