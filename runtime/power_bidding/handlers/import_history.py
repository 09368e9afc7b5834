"""Run once by an operator: import a history from the bucket's folder `imports`."""

from __future__ import annotations

from typing import TypedDict

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws.bucket import S3Bucket
from power_bidding.aws.environment import client, setting, settings_list
from power_bidding.aws.imported_days import DynamoDays
from power_bidding.aws.observe import logger
from power_bidding.core.importing import import_history


class Request(TypedDict):
    key: str


class Output(TypedDict):
    hours: int


@logger.inject_lambda_context
def handler(event: Request, context: LambdaContext) -> Output:
    body = S3Bucket(client("s3"), setting("BUCKET")).get(event["key"])
    if body is None:
        raise ValueError(f"{event['key']} does not exist in the bucket")
    table = DynamoDays(client("dynamodb"), setting("HISTORY_TABLE"))
    count = import_history(body.decode("utf-8-sig"), settings_list("LOCATIONS"), table)
    logger.info("imported", extra={"key": event["key"], "hours": count})
    return {"hours": count}
