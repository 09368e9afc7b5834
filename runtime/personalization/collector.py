"""Lambda: a training job has changed its state. The event is SageMaker's, by EventBridge."""

from __future__ import annotations

from typing import Any

from personalization.aws import backend
from personalization.collect import collect
from personalization.observe import logger, metrics


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> None:
    name = event["detail"]["TrainingJobName"]
    logger.append_keys(job=name)
    # What SageMaker says now counts, not the event: events come late, twice and out of order.
    if job := backend().store.job(name):
        collect(backend(), job)
    else:
        logger.info("not one of ours")
