"""Run on the stream of `requests`: notify users of models that are READY or have FAILED."""

from __future__ import annotations

from typing import Any

from personalization.aws import environment
from personalization.aws.observe import logger, metrics
from personalization.core.notify import notify
from personalization.handlers.streams import each_new_status


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> None:
    each_new_status(event, lambda request: notify(environment.follow_ups(), environment.topic(), request))
