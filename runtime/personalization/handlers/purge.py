"""Run on the stream of `requests`: remove what belonged to deleted models."""

from __future__ import annotations

from typing import Any

from personalization.aws import environment
from personalization.aws.observe import logger, metrics
from personalization.core.model import Request
from personalization.core.purge import purge
from personalization.handlers.streams import each_new_status


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> None:
    def work(request: Request) -> None:
        purge(environment.backend(), environment.accounts(), environment.follow_ups(), request)

    each_new_status(event, work)
