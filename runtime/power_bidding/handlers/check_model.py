"""Run before an hour's bids: return whether the model in service is current."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws import desk
from power_bidding.aws.observe import count, logger, metrics
from power_bidding.core.currency import Currency, Inspection, check_model
from power_bidding.handlers.events_of_bids import HourEvent, hour_of


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: HourEvent, context: LambdaContext) -> Currency:
    run = hour_of(event)
    logger.append_keys(hour=event["hour"])
    inspection = Inspection(
        desk.assets(), desk.market_settings(), desk.model_settings(), desk.bids(), desk.history()
    )
    serving = desk.endpoint_parameter().get().now
    found = check_model(inspection, desk.pipeline(), serving, desk.waits().last_start(), run)
    if serving:
        count("ModelAgeHours", float(run - serving.trained_to))
    logger.info(found["reason"])
    return found
