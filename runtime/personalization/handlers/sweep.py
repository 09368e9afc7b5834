"""Run on a schedule: do the work of functions whose event was lost."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext

from personalization.aws import environment
from personalization.aws.observe import logger, metrics
from personalization.core.sweep import Sweeper


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: object, context: LambdaContext) -> None:
    Sweeper(
        environment.backend(), environment.accounts(), environment.follow_ups(), environment.topic()
    ).sweep()
