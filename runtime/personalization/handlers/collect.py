"""Run when the state of a training job changes: update the job's requests."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext

from personalization.aws import environment
from personalization.aws.observe import logger, metrics
from personalization.core.collect import collect
from personalization.core.purge import purge_deleted
from personalization.handlers.events import TrainingJobChange


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: TrainingJobChange, context: LambdaContext) -> None:
    name = event["detail"]["TrainingJobName"]
    logger.append_keys(job=name)
    # The state is read from SageMaker: events may be late, repeated or out of order
    backend = environment.backend()
    if job := backend.store.job(name):
        collect(backend, job)
        purge_deleted(backend, environment.accounts(), environment.follow_ups(), name)
    else:
        logger.info("the training job is not in the table `jobs`")
