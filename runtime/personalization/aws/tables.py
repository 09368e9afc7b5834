"""DynamoDB tables with plain Python values. All writes are conditional and go through `write`."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef as Part

Item = dict[str, Any]

CONFLICT_TRIES = 8
CONDITION = "ConditionalCheckFailed"
PASSING = frozenset(
    (
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
        "TransactionInProgressException",
    )
)
"""Reasons for which a failed write is retried: they do not mean that a condition failed."""


class NamesAndValues(TypedDict, total=False):
    """Values of `#name` and `:name` in an expression."""

    ExpressionAttributeNames: dict[str, str]
    ExpressionAttributeValues: dict[str, Any]


_serialize, _deserialize = TypeSerializer().serialize, TypeDeserializer().deserialize


def marshal(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _serialize(_plain(value)) for name, value in values.items()}


def unmarshal(item: Mapping[str, Any]) -> Item:
    return {name: _number(_deserialize(value)) for name, value in item.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, str) else value  # converts a StrEnum to str


def _number(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list):
        return [_number(item) for item in value]
    if isinstance(value, dict):
        return {key: _number(item) for key, item in value.items()}
    return value


class Table:
    """A table: reads, and parts of transactions on it.

    Conditions and filters are DynamoDB expressions, in which `#name` is the attribute `name` and `:name` is
    the given value of that name.
    """

    def __init__(self, client: DynamoDBClient, name: str):
        self.client, self.name = client, name

    def get(self, **key: str) -> Item | None:
        """Return the current item; None if it does not exist."""
        answer = self.client.get_item(TableName=self.name, Key=marshal(key), ConsistentRead=True)
        return unmarshal(answer["Item"]) if "Item" in answer else None

    def get_all(self, keys: Sequence[Mapping[str, str]]) -> list[Item]:
        """Return the current items that exist, in any order."""
        found: list[Item] = []
        left = [marshal(key) for key in keys]
        while left:
            batch, left = left[:100], left[100:]
            answer = self.client.batch_get_item(
                RequestItems={self.name: {"Keys": batch, "ConsistentRead": True}}
            )
            found += [unmarshal(item) for item in answer["Responses"].get(self.name, [])]
            left += answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
        return found

    def query(
        self,
        condition: str,
        values: Mapping[str, Any],
        *,
        index: str | None = None,
        filter: str | None = None,
        newest_first: bool = False,
        limit: int,
    ) -> list[Item]:
        """Return at most `limit` items that pass the condition and the filter, from all pages."""
        return list(self._query(condition, values, index, filter, newest_first, limit))

    def _query(
        self,
        condition: str,
        values: Mapping[str, Any],
        index: str | None,
        filter: str | None,
        newest_first: bool,
        limit: int,
    ) -> Iterator[Item]:
        asked: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": condition,
            "ScanIndexForward": not newest_first,
            "Limit": max(limit, 100) if filter else limit,
        }
        asked |= {"IndexName": index} if index else {"ConsistentRead": True}
        asked |= {"FilterExpression": filter} if filter else {}
        asked |= _names_and_values(f"{condition} {filter or ''}", values)
        while True:
            answer = self.client.query(**asked)
            for item in answer["Items"]:
                yield unmarshal(item)
                limit -= 1
                if not limit:
                    return
            if "LastEvaluatedKey" not in answer:
                return
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    # Parts of transactions

    def put(self, item: Mapping[str, Any], condition: str, values: Mapping[str, Any] | None = None) -> Part:
        return {
            "Put": {
                "TableName": self.name,
                "Item": marshal(item),
                "ConditionExpression": condition,
                **_names_and_values(condition, values or {}),
            }
        }

    def update(
        self,
        key: Mapping[str, str],
        change: Mapping[str, Any],
        condition: str,
        values: Mapping[str, Any] | None = None,
        add: Mapping[str, int] | None = None,
    ) -> Part:
        """Return an update: set the attributes of `change` (None removes one), add the numbers of `add`."""
        given, sets, removes, adds = dict(values or {}), [], [], []
        for name, value in change.items():
            if value is None:
                removes.append(f"#{name}")
            else:
                given[f"new_{name}"] = value
                sets.append(f"#{name} = :new_{name}")
        for name, value in (add or {}).items():
            given[f"add_{name}"] = value
            adds.append(f"#{name} :add_{name}")
        clauses = [("SET", sets), ("REMOVE", removes), ("ADD", adds)]
        expression = " ".join(f"{word} {', '.join(parts)}" for word, parts in clauses if parts)
        return {
            "Update": {
                "TableName": self.name,
                "Key": marshal(key),
                "UpdateExpression": expression,
                "ConditionExpression": condition,
                **_names_and_values(f"{expression} {condition}", given),
            }
        }

    def check(self, key: Mapping[str, str], condition: str, values: Mapping[str, Any] | None = None) -> Part:
        return {
            "ConditionCheck": {
                "TableName": self.name,
                "Key": marshal(key),
                "ConditionExpression": condition,
                **_names_and_values(condition, values or {}),
            }
        }

    def delete(self, key: Mapping[str, str], condition: str, values: Mapping[str, Any] | None = None) -> Part:
        return {
            "Delete": {
                "TableName": self.name,
                "Key": marshal(key),
                "ConditionExpression": condition,
                **_names_and_values(condition, values or {}),
            }
        }


def _names_and_values(expression: str, values: Mapping[str, Any]) -> NamesAndValues:
    names = set(expression.replace("(", " ").replace(")", " ").replace(",", " ").split())
    found: NamesAndValues = {}
    if used := {word: word[1:] for word in names if word.startswith("#")}:
        found["ExpressionAttributeNames"] = used
    if values:
        found["ExpressionAttributeValues"] = {f":{name}": item for name, item in marshal(values).items()}
    return found


def write(client: DynamoDBClient, *parts: Part) -> frozenset[int]:
    """Write all of `parts`, or nothing; return the positions of parts whose condition failed.

    A single part is written without a transaction, at half the cost. Throttling and transaction conflicts are
    retried. Raises `ClientError` if the last retry fails, and for other errors.
    """
    for attempt in range(CONFLICT_TRIES):
        try:
            _send(client, parts)
            return frozenset()
        except ClientError as error:
            reasons = _reasons(error, len(parts))
            if failed := frozenset(at for at, reason in enumerate(reasons) if reason == CONDITION):
                return failed
            if attempt == CONFLICT_TRIES - 1 or not any(reason in PASSING for reason in reasons):
                raise
        time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - not a secret
    raise AssertionError("unreachable")


def _send(client: DynamoDBClient, parts: Sequence[Part]) -> None:
    if len(parts) > 1:
        client.transact_write_items(TransactItems=parts)
    elif "Put" in parts[0]:
        client.put_item(**parts[0]["Put"])
    elif "Update" in parts[0]:
        client.update_item(**parts[0]["Update"])
    else:
        client.delete_item(**parts[0]["Delete"])


def _reasons(error: ClientError, count: int) -> list[str]:
    """Return DynamoDB's reason for each part of a failed write; "None" for a part that did not fail."""
    code = error.response["Error"]["Code"]
    if code == "TransactionCanceledException":
        return [reason.get("Code", "None") for reason in error.response.get("CancellationReasons", [])]
    own = {
        "ConditionalCheckFailedException": CONDITION,
        "TransactionConflictException": "TransactionConflict",
    }
    return [own.get(str(code), str(code))] * count
