"""Handle requests to the HTTP API (payload format 2.0). API Gateway has verified the token."""

from __future__ import annotations

import functools
import time

from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import ClientError

from data_centric.aws import environment
from data_centric.aws.observe import count, logger, metrics
from data_centric.aws.tasks_table import is_busy
from data_centric.core.api import Service, answer
from data_centric.core.http import Answer, GatewayEvent, GatewayResponse, HttpError, busy, parse


@functools.cache
def service() -> Service:
    return Service(
        environment.tasks_table(), environment.objects(), environment.pseudonym_key(), time.time, count
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
    count("Unavailable", float(answered.status == 503))
    return answered.to_gateway()


def respond(event: GatewayEvent) -> Answer:
    try:
        operation, call = parse(event)
        return answer(service(), operation.name, call)
    except HttpError as problem:
        return problem.answer()
    except Exception as error:
        if isinstance(error, ClientError) and is_busy(error):
            return busy().answer()
        logger.exception("the request failed")
        return HttpError(500, "internal", "The server could not handle the request. Try again.").answer()
