"""Run as the pipeline's last step: bring a version of the model into service."""

from __future__ import annotations

import time
from typing import TypedDict

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws import desk
from power_bidding.aws.environment import setting
from power_bidding.aws.observe import count, logger, metrics
from power_bidding.core.deployment import Stage, deploy, version_of
from power_bidding.core.trial import Trial
from power_bidding.handlers.events_of_bids import DeployEvent, hour_of

SPARE_SECONDS = 75
"""Time reserved for one more invocation of the endpoint and the writes after it."""
MOST_SECONDS = 540
"""Time limit of a deployment: the pipeline's Lambda step ends after 10 minutes."""


class Deployed(TypedDict):
    endpoint: str
    version: str


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: DeployEvent, context: LambdaContext) -> Deployed:
    run = hour_of(event)
    logger.append_keys(hour=event["hour"], request=event.get("request"))
    trial = Trial(desk.assets(), desk.market_settings(), desk.history(), desk.datasets(), desk.models())
    stage = Stage(
        setting("ENDPOINT_NAME"),
        desk.endpoint_parameter(),
        desk.endpoints(),
        lambda name: trial.attempt(name, run),
        time.monotonic,
        time.sleep,
    )
    seconds = min(MOST_SECONDS, context.get_remaining_time_in_millis() / 1000) - SPARE_SECONDS
    serving = deploy(stage, version_of(event, run), seconds)
    count("Deployments", 1)
    if "capture" in event:
        count("Capture", float(event["capture"]))
    logger.info("%s is in service", serving.endpoint)
    return {"endpoint": serving.endpoint, "version": serving.version}
