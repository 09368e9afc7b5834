"""Run on the stream of `requests`: remove the objects and rows of deleted models."""

from __future__ import annotations

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from personalization.aws import environment
from personalization.aws.observe import logger, metrics
from personalization.core.model import Request
from personalization.core.purge import purge
from personalization.handlers.events import StreamBatch
from personalization.handlers.streams import each_new_status


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: StreamBatch, context: LambdaContext) -> PartialItemFailureResponse:
    def work(request: Request) -> None:
        purge(environment.backend(), environment.accounts(), environment.follow_ups(), request)

    return each_new_status(event, context, work)
