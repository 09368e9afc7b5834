"""A DynamoDB table with plain Python values: conditional puts, and queries of sort keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]
_serialize, _deserialize = TypeSerializer().serialize, TypeDeserializer().deserialize


def marshal(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _serialize(Decimal(repr(value)) if isinstance(value, float) else value)
        for name, value in values.items()
    }


def unmarshal(item: Mapping[str, Any]) -> Item:
    return {name: _plain(_deserialize(value)) for name, value in item.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


class Table:
    """A table. In conditions, `#name` is the attribute `name` and `:name` the given value of that name."""

    def __init__(self, client: DynamoDBClient, name: str):
        self.client, self.name = client, name

    def get(self, **key: str) -> Item | None:
        """Return the current item; None if it does not exist."""
        answer = self.client.get_item(TableName=self.name, Key=marshal(key), ConsistentRead=True)
        return unmarshal(answer["Item"]) if "Item" in answer else None

    def put(
        self, item: Mapping[str, Any], condition: str = "", values: Mapping[str, Any] | None = None
    ) -> bool:
        """Write the item if the condition holds; return whether it was written."""
        asked = {"ConditionExpression": condition, **_named(condition, values or {})} if condition else {}
        try:
            self.client.put_item(TableName=self.name, Item=marshal(item), **asked)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def update(self, key: Mapping[str, str], change: Mapping[str, Any]) -> Item:
        """Set attributes of an item, which is created if it is missing; return the updated item."""
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in change)
        answer = self.client.update_item(
            TableName=self.name,
            Key=marshal(key),
            UpdateExpression=expression,
            ReturnValues="ALL_NEW",
            **_named(expression, change),
        )
        return unmarshal(answer["Attributes"])

    def between(
        self, key: tuple[str, str], sort: tuple[str, str, str], newest: int | None = None
    ) -> Iterator[Item]:
        """Yield the items of a partition.

        :param key: name and value of the partition key
        :param sort: name, first and last value of the sort key, both included
        :param newest: number of items, from the last one backwards; None: all, in order
        """
        condition = f"#{key[0]} = :key AND #{sort[0]} BETWEEN :first AND :last"
        asked: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": condition,
            "ConsistentRead": True,
            **_named(condition, {"key": key[1], "first": sort[1], "last": sort[2]}),
        }
        if newest is not None:
            asked |= {"ScanIndexForward": False, "Limit": newest}
        while True:
            answer = self.client.query(**asked)
            for item in answer["Items"]:
                yield unmarshal(item)
            if newest is not None or "LastEvaluatedKey" not in answer:
                return
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def scan(self, condition: str, values: Mapping[str, Any] | None = None) -> Iterator[Item]:
        """Yield the items that fulfil the condition."""
        asked: dict[str, Any] = {
            "TableName": self.name,
            "FilterExpression": condition,
            "ConsistentRead": True,
            **_named(condition, values or {}),
        }
        while True:
            answer = self.client.scan(**asked)
            for item in answer["Items"]:
                yield unmarshal(item)
            if "LastEvaluatedKey" not in answer:
                return
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _named(expression: str, values: Mapping[str, Any]) -> dict[str, Any]:
    words = set(expression.replace("(", " ").replace(")", " ").replace(",", " ").split())
    found: dict[str, Any] = {"ExpressionAttributeNames": {word: word[1:] for word in words if word[0] == "#"}}
    if values:
        found["ExpressionAttributeValues"] = {f":{name}": item for name, item in marshal(values).items()}
    return found
