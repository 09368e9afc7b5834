"""Records of a DynamoDB stream: each comes at least once, in order for each item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from personalization.aws.store import request_of
from personalization.aws.tables import Item, unmarshal
from personalization.core.model import Request

EMPTY: Item = {"status": None}


def each_new_status(event: dict[str, Any], work: Callable[[Request], None]) -> None:
    """Call `work` with each request whose status has changed.

    Raises `ExceptionGroup` after all were tried, so that the batch comes again.
    """
    failures = []
    for record in event["Records"]:
        change = record["dynamodb"]
        before = unmarshal(change["OldImage"]) if "OldImage" in change else EMPTY
        after = unmarshal(change["NewImage"]) if "NewImage" in change else EMPTY
        if after["status"] and after["status"] != before["status"]:
            try:
                work(request_of(after))
            except Exception as error:  # of one record: the others are tried
                failures.append(error)
    if failures:
        raise ExceptionGroup("records of the stream", failures)
