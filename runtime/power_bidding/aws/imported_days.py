"""The DynamoDB table `History`, as `importing.Days`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from power_bidding.aws.history import FAILED_CONDITION
from power_feeds import hours

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

VERSION = "1"
"""Version of an hour that was imported rather than read from a feed."""


class DynamoDays:
    def __init__(self, client: DynamoDBClient, name: str) -> None:
        self.client, self.name = client, name

    def add(self, location: str, day: str, rows: Mapping[int, str]) -> bool:
        item = {"location": {"S": location}, "day": {"S": day}}
        for hour, text in rows.items():
            part = f"{hours.moment(hour):%H}"
            item |= {f"h{part}": {"S": text}, f"n{part}": {"N": VERSION}}
        try:
            self.client.put_item(
                TableName=self.name,
                Item=item,
                ConditionExpression="attribute_not_exists(#day)",
                ExpressionAttributeNames={"#day": "day"},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == FAILED_CONDITION:
                return False
            raise
        return True
