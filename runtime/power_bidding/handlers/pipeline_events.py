"""Run on state changes of the pipeline: end the state machine's wait, or send a heartbeat."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws import desk
from power_bidding.aws.observe import logger, metrics
from power_bidding.core import waiting
from power_bidding.handlers.events_of_bids import PipelineEvent


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: PipelineEvent, context: LambdaContext) -> None:
    detail, room = event["detail"], desk.waiting_room()
    execution, status = detail["pipelineExecutionArn"], detail.get("currentPipelineExecutionStatus")
    if status:
        request = waiting.execution_changed(room, execution, status)
    else:
        request = waiting.step_changed(room, execution)
    logger.info("status %s, request: %s", status or detail.get("currentStepStatus"), request or "none")
