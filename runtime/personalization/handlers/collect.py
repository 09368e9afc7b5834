"""Run when a training job has changed its state: bring its requests to the same state."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext

from personalization.aws.environment import backend
from personalization.aws.observe import logger, metrics
from personalization.core.collect import collect
from personalization.handlers.events import TrainingJobChange


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: TrainingJobChange, context: LambdaContext) -> None:
    name = event["detail"]["TrainingJobName"]
    logger.append_keys(job=name)
    # The state is read from SageMaker, not from the event: events come late, twice and out of order.
    if job := backend().store.job(name):
        collect(backend(), job)
    else:
        logger.info("not one of ours")
