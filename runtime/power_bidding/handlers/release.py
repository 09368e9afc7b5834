"""Run by an operator: send the offers of an hour's run that the switch `approve` has held back."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws import desk
from power_bidding.aws.observe import logger, metrics
from power_bidding.core.release import Released, release
from power_bidding.handlers.events_of_bids import HourEvent, hour_of


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: HourEvent, context: LambdaContext) -> Released:
    logger.append_keys(hour=event["hour"])
    done = release(desk.desk(), hour_of(event))
    logger.info("released", extra={"released": done})
    return done
