"""Run after the feeds of an hour were fetched or have failed: make the hour's dataset."""

from __future__ import annotations

import functools

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws.bucket import S3Bucket
from power_bidding.aws.environment import client, setting, settings_list
from power_bidding.aws.history import DynamoHistory
from power_bidding.aws.hours_table import DynamoHours
from power_bidding.aws.observe import count, logger, metrics
from power_bidding.core.consolidate import Backend, Output, Request, consolidate


@functools.cache
def backend() -> Backend:
    return Backend(
        objects=S3Bucket(client("s3"), setting("BUCKET")),
        hours=DynamoHours(client("dynamodb"), setting("HOURS_TABLE")),
        history=DynamoHistory(client("dynamodb"), setting("HISTORY_TABLE")),
        locations=settings_list("LOCATIONS"),
        zone=setting("TIME_ZONE"),
    )


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: Request, context: LambdaContext) -> Output:
    logger.append_keys(hour=event["hour"])
    output = consolidate(event, backend())
    count(
        {"complete": "CompleteHours", "interpolated": "InterpolatedHours"}.get(
            output["status"], "IncompleteHours"
        )
    )
    count("MissingFeeds", sum(feed["status"] != "ready" for feed in event["feeds"]))
    count("FeedAgeHours", output["age"])
    logger.info("consolidated", extra={"output": output})
    return output
