"""Run if an asset's bids could not be made: send the latest curve of the same hour, or write a no-offer."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws import desk
from power_bidding.aws.observe import logger, metrics
from power_bidding.core.bidding import Report
from power_bidding.core.fallback import fall_back
from power_bidding.handlers.events_of_bids import FallBackEvent, error_of, hour_of


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: FallBackEvent, context: LambdaContext) -> Report:
    logger.append_keys(hour=event["hour"], asset=event["asset"])
    report = fall_back(desk.desk(), hour_of(event), event["asset"], error_of(event))
    logger.warning("fallen back", extra={"offers": report["offers"]})
    return report
