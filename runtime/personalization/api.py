"""Lambda: the HTTP API. The event is API Gateway's (payload 2.0), with the claims of a checked token."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

from personalization import aws
from personalization.http import Answer, Problem, parse
from personalization.observe import count, logger, metrics
from personalization.service import Service, answer
from personalization.settings import JobSettings, Limits, Pace, read
from personalization.store import DynamoStore


@functools.cache
def service() -> Service:
    tables = (aws.table(name) for name in ("users", "models", "requests", "jobs"))
    return Service(
        accounts=aws.accounts(),
        bucket=aws.Bucket(aws.client("s3"), os.environ["DATA_BUCKET"]),
        endpoint=aws.client("sagemaker-runtime"),
        endpoint_name=os.environ["ENDPOINT_NAME"],
        seconds_per_step=DynamoStore(aws.client("dynamodb"), *tables).seconds_per_step,
        now=time.time,
        settings=read(JobSettings, "JOB_SETTINGS"),
        pace=read(Pace, "PACE"),
        limits=read(Limits, "LIMITS"),
    )


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    logger.append_keys(
        route=event.get("routeKey"), api_request=event.get("requestContext", {}).get("requestId")
    )
    answered = respond(event)
    logger.info("answered %d", answered.status)
    count("Requests", 1)
    count("Throttled", float(answered.status == 429))
    count("Unavailable", float(answered.status == 503))
    return answered.to_gateway()


def respond(event: dict[str, Any]) -> Answer:
    try:
        operation, call = parse(event)
        return answer(service(), operation.name, call)
    except Problem as problem:
        return problem.answer()
    except Exception:
        logger.exception("the request failed")
        return Problem(500, "internal", "Something went wrong here. Try again.").answer()
