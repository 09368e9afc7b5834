"""Records of a DynamoDB stream: each comes at least once, in order for each item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from personalization.tables import Item, unmarshal

EMPTY: Item = {"status": None}


def each_new_status(event: dict[str, Any], work: Callable[[Item], None]) -> None:
    """Call `work` with each item whose status has changed. Raises `ExceptionGroup` after all were tried, so
    that the batch comes again."""
    failures = []
    for record in event["Records"]:
        change = record["dynamodb"]
        before = unmarshal(change["OldImage"]) if "OldImage" in change else EMPTY
        after = unmarshal(change["NewImage"]) if "NewImage" in change else EMPTY
        if after["status"] and after["status"] != before["status"]:
            try:
                work(after)
            except Exception as error:  # of one record: the others are tried
                failures.append(error)
    if failures:
        raise ExceptionGroup("records of the stream", failures)
