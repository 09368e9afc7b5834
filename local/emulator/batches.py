"""The response of a function that reports which items of its batch failed (`ReportBatchItemFailures`).

The rules are from the AWS Lambda developer guide, and are the same for streams and queues.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any


class InvalidAnswerError(ValueError):
    """The response is not a partial batch response: the whole batch has failed."""


def reports(mapping: dict[str, Any]) -> bool:
    """Return whether Lambda reads the failed items from the function's response for this event source
    mapping."""
    return "ReportBatchItemFailures" in (mapping.get("FunctionResponseTypes") or [])


def failed(answer: Any, items: Collection[str]) -> set[str]:
    """Return the identifiers of the failed items; none for an empty or null response.

    Raises `InvalidAnswerError`.

    :param items: identifiers of the batch's items
    """
    if isinstance(answer, str):
        try:
            answer = json.loads(answer)
        except ValueError:
            raise InvalidAnswerError("the function's response must be JSON") from None
    if answer is None:
        return set()
    if not isinstance(answer, dict):
        raise InvalidAnswerError(
            f"the function's response must be a JSON object, got {type(answer).__name__}"
        )
    listed = answer.get("batchItemFailures")
    if listed is None:
        return set()
    if not isinstance(listed, list):
        raise InvalidAnswerError(f"batchItemFailures must be a list, got {type(listed).__name__}")
    found = set()
    for failure in listed:
        name = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if not isinstance(name, str) or name not in items:
            raise InvalidAnswerError(f"itemIdentifier must be an item of the batch, got {name!r}")
        found.add(name)
    return found
