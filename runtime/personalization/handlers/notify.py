"""Run on the stream of `requests`: notify users of READY and FAILED models."""

from __future__ import annotations

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from personalization.aws import environment
from personalization.aws.observe import logger, metrics
from personalization.core.model import Request
from personalization.core.notify import notify
from personalization.handlers.events import StreamBatch
from personalization.handlers.streams import each_new_status


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: StreamBatch, context: LambdaContext) -> PartialItemFailureResponse:
    def work(request: Request) -> None:
        notify(environment.follow_ups(), environment.topic(), request)

    return each_new_status(event, context, work)
