"""Handle requests to the HTTP API (payload format 2.0): bids and the state of the service, read only."""

from __future__ import annotations

import functools

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws import desk
from power_bidding.aws.observe import count, logger, metrics
from power_bidding.core.api import GatewayEvent, GatewayResponse, Reader, answer, response


@functools.cache
def reader() -> Reader:
    return Reader(
        desk.assets(),
        desk.market_settings(),
        desk.bids(),
        desk.hours_table(),
        desk.clock(),
        desk.read_switch,
        lambda: desk.endpoint_parameter().get().now,
    )


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: GatewayEvent, context: LambdaContext) -> GatewayResponse:
    logger.append_keys(
        route=event.get("routeKey"), api_request=event.get("requestContext", {}).get("requestId")
    )
    try:
        answered = answer(reader(), event)
    except Exception:
        logger.exception("the request failed")
        answered = response(500, {"error": "the server could not handle the request, try again", "field": ""})
    count("Requests", 1)
    count("Failures", float(answered["statusCode"] >= 500))
    return answered
