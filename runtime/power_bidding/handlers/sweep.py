"""Run on a schedule: end the waits whose events were lost."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws import desk
from power_bidding.aws.observe import count, logger, metrics
from power_bidding.core import waiting


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: object, context: LambdaContext) -> None:
    count("OpenWaits", waiting.sweep(desk.waiting_room()))
