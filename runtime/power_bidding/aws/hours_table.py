"""The DynamoDB table `Hours`, as `hours_table.Hours`."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from power_bidding.core.hours_table import HourRow
from power_feeds import hours

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FAILED_CONDITION = "ConditionalCheckFailedException"
AT_ONCE = 100
"""Maximum number of keys in a BatchGetItem request."""
BATCH_TRIES = 6


class DynamoHours:
    def __init__(
        self, client: DynamoDBClient, name: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.client, self.name, self.sleep = client, name, sleep

    def row(self, hour: int) -> HourRow | None:
        key = {"hour": {"S": hours.text(hour)}}
        found = self.client.get_item(TableName=self.name, Key=key, ConsistentRead=True)
        return _row(found["Item"]) if "Item" in found else None

    def rows(self, of: Sequence[int]) -> dict[int, HourRow]:
        found: dict[int, HourRow] = {}
        left = [{"hour": {"S": hours.text(hour)}} for hour in of]
        for attempt in range(BATCH_TRIES):
            batch, left = left[:AT_ONCE], left[AT_ONCE:]
            answer = self.client.batch_get_item(
                RequestItems={self.name: {"Keys": batch, "ConsistentRead": True}}
            )
            rows = map(_row, answer["Responses"].get(self.name, []))
            found |= {row.hour: row for row in rows}
            refused = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            left += [{"hour": {"S": key["hour"]["S"]}} for key in refused]
            if not left:
                return found
            if refused:
                self.sleep(0.05 * 2**attempt)
        raise TimeoutError(f"table {self.name}: {len(left)} keys could not be read in {BATCH_TRIES} attempts")

    def put(self, row: HourRow, before: int) -> bool:
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(#hour)"}
        if before:
            condition = {
                "ConditionExpression": "#version = :before",
                "ExpressionAttributeValues": {":before": {"N": str(before)}},
            }
        names = {"#version": "version"} if before else {"#hour": "hour"}
        try:
            self.client.put_item(
                TableName=self.name, Item=_item(row), ExpressionAttributeNames=names, **condition
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == FAILED_CONDITION:
                return False
            raise
        return True


def _item(row: HourRow) -> dict[str, Any]:
    return {
        "hour": {"S": hours.text(row.hour)},
        "version": {"N": str(row.version)},
        "status": {"S": row.status},
        "digest": {"S": row.digest},
        "key": {"S": row.key},
        "flags": {"M": {name: {"S": how} for name, how in row.flags.items()}},
        "values": {"S": json.dumps(row.values, sort_keys=True, separators=(",", ":"))},
        "as_of": {"S": hours.text(row.as_of)},
        "inputs": {"S": row.inputs},
        "changes": {"L": [{"S": name} for name in row.changes]},
        "updated": {"S": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")},
    }


def _row(item: Mapping[str, Any]) -> HourRow:
    return HourRow(
        hour=hours.parse(item["hour"]["S"]),
        version=int(item["version"]["N"]),
        status=item["status"]["S"],
        digest=item["digest"]["S"],
        key=item["key"]["S"],
        flags={name: how["S"] for name, how in item["flags"]["M"].items()},
        values=json.loads(item["values"]["S"]),
        as_of=hours.parse(item["as_of"]["S"]),
        inputs=item["inputs"]["S"],
        changes=[name["S"] for name in item["changes"]["L"]],
    )
