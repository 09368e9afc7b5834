"""Run as a task that waits for a callback: write the history, and start the pipeline that ends the wait."""

from __future__ import annotations

from typing import TypedDict

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws import desk
from power_bidding.aws.environment import setting
from power_bidding.aws.observe import count, logger, metrics
from power_bidding.core import readings, waiting
from power_bidding.handlers.events_of_bids import RetrainEvent, hour_of


class Started(TypedDict):
    request: str
    execution: str


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: RetrainEvent, context: LambdaContext) -> Started:
    run, request = hour_of(event), waiting.request_of(event["execution"])
    logger.append_keys(hour=event["hour"], request=request)
    folder = f"training/{request}"
    for location in sorted({asset.location for asset in desk.assets().values()}):
        values = readings.stored(desk.history(), location, run, desk.model_settings().history_days)
        desk.bucket().put(f"{folder}/history/{location}.csv", waiting.training_csv(values, run), "text/csv")
    champion = f"{folder}/champion"
    serving = desk.endpoint_parameter().get().now
    if serving:
        desk.bucket().copy(desk.endpoints().model_data(serving.endpoint), f"{champion}/model.tar.gz")
    else:  # a processing job rejects an input without objects
        desk.bucket().put(f"{champion}/none", b"", "text/plain")
    training = f"s3://{setting('BUCKET')}/{folder}"
    execution = waiting.begin(desk.waiting_room(), run, event["token"], event["execution"], training)
    count("Retrainings", 1)
    logger.info("the pipeline's execution is %s", execution)
    return {"request": request, "execution": execution}
