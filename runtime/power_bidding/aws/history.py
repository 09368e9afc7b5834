"""The DynamoDB table `History`, as `history.History`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from power_bidding.core.history import utc_day
from power_feeds import hours

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FAILED_CONDITION = "ConditionalCheckFailedException"


class DynamoHistory:
    def __init__(self, client: DynamoDBClient, name: str) -> None:
        self.client, self.name = client, name

    def versions(self, location: str, day: str) -> dict[int, int]:
        found = self.client.get_item(TableName=self.name, Key=_key(location, day), ConsistentRead=True).get(
            "Item", {}
        )
        return {
            hours.parse(f"{day}T{name[1:]}:00Z"): int(value["N"])
            for name, value in found.items()
            if name[:1] == "n" and name[1:].isdigit()
        }

    def put(self, location: str, hour: int, text: str, version: int) -> None:
        part = _part(hour)
        self._update(
            _key(location, utc_day(hour)),
            f"SET h{part} = :text, n{part} = :version",
            f"attribute_not_exists(n{part}) OR n{part} < :version",
            {":text": {"S": text}, ":version": {"N": str(version)}},
        )

    def freeze(self, location: str, forecast: Mapping[int, float], run: int) -> None:
        days: dict[str, dict[str, float]] = {}
        for hour, value in sorted(forecast.items()):
            days.setdefault(utc_day(hour), {})[_part(hour)] = value
        for day, values in days.items():
            self._update(
                _key(location, day),
                "SET " + ", ".join(f"f{part} = :f{part}, g{part} = :run" for part in values),
                " AND ".join(f"(attribute_not_exists(g{part}) OR g{part} <= :run)" for part in values),
                {":run": {"N": str(run)}}
                | {f":f{part}": {"S": repr(value)} for part, value in values.items()},
            )

    def _update(self, key: dict[str, Any], change: str, condition: str, values: dict[str, Any]) -> None:
        """Update one item. A failed condition is ignored: the stored value is as new or newer."""
        try:
            self.client.update_item(
                TableName=self.name,
                Key=key,
                UpdateExpression=change,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != FAILED_CONDITION:
                raise


def _key(location: str, day: str) -> dict[str, Any]:
    return {"location": {"S": location}, "day": {"S": day}}


def _part(hour: int) -> str:
    return f"{hours.moment(hour):%H}"
