"""Run when a training task has written its result: prepare the adapter for the endpoint.

The event has the format of S3's notifications, for keys `jobs/…/result.json`.
"""

from __future__ import annotations

from urllib.parse import unquote_plus

from aws_lambda_powertools.utilities.typing import LambdaContext

from personalization.aws.environment import backend
from personalization.aws.observe import logger, metrics
from personalization.core import keys
from personalization.core.prepare import prepare
from personalization.handlers.events import ObjectsCreated


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: ObjectsCreated, context: LambdaContext) -> None:
    for record in event["Records"]:
        found = keys.request_of_result(unquote_plus(record["s3"]["object"]["key"]))
        if found is None:
            continue
        job, name = found
        logger.append_keys(job=job, request=name)
        for request in backend().store.requests([name]):
            if request.job == job:  # otherwise the result is from a job that was given up
                logger.info("request %s is %s", name, prepare(backend(), request).status)
