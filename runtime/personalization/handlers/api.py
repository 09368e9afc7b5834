"""Handle requests to the HTTP API (payload format 2.0). API Gateway has verified the token."""

from __future__ import annotations

import functools
import os

from aws_lambda_powertools.utilities.typing import LambdaContext

from personalization.aws import environment
from personalization.aws.endpoint import SageMakerEndpoint
from personalization.aws.observe import count, logger, metrics
from personalization.core.http import Answer, GatewayEvent, GatewayResponse, HttpError, parse
from personalization.core.service import Service, answer
from personalization.core.settings import JobSettings, Limits, Pace


@functools.cache
def service() -> Service:
    """Return the service of the operations, made once per execution environment."""
    return Service(
        accounts=environment.accounts(),
        bucket=environment.bucket(),
        endpoint=SageMakerEndpoint(environment.client("sagemaker-runtime"), os.environ["ENDPOINT_NAME"]),
        seconds_per_step=environment.store().seconds_per_step,
        clock=environment.SystemClock(),
        settings=environment.read(JobSettings, "JOB_SETTINGS"),
        pace=environment.read(Pace, "PACE"),
        limits=environment.read(Limits, "LIMITS"),
    )


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: GatewayEvent, context: LambdaContext) -> GatewayResponse:
    logger.append_keys(
        route=event.get("routeKey"), api_request=event.get("requestContext", {}).get("requestId")
    )
    answered = respond(event)
    logger.info("answered %d", answered.status)
    count("Requests", 1)
    count("Throttled", float(answered.status == 429))
    count("Unavailable", float(answered.status == 503))
    return answered.to_gateway()


def respond(event: GatewayEvent) -> Answer:
    try:
        operation, call = parse(event)
        return answer(service(), operation.name, call)
    except HttpError as problem:
        return problem.answer()
    except Exception:
        logger.exception("the request failed")
        return HttpError(500, "internal", "The server could not handle the request. Try again.").answer()
