"""Run by an operator: bring the previous version of the model back into service."""

from __future__ import annotations

import time

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws import desk
from power_bidding.aws.environment import setting
from power_bidding.aws.observe import count, logger, metrics
from power_bidding.core.deployment import Stage, roll_back
from power_bidding.handlers.deploy import Deployed
from power_bidding.handlers.events_of_bids import RollBackEvent


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: RollBackEvent, context: LambdaContext) -> Deployed:
    stage = Stage(
        setting("ENDPOINT_NAME"),
        desk.endpoint_parameter(),
        desk.endpoints(),
        lambda name: None,
        time.monotonic,
        time.sleep,
    )
    serving = roll_back(stage, event.get("version"))
    count("Rollbacks", 1)
    logger.warning("%s is in service again", serving.endpoint)
    return {"endpoint": serving.endpoint, "version": serving.version}
