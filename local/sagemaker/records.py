"""Functions that the operations of all resources share: create, find, summarize and remove records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local.sagemaker import tags
from local.sagemaker.api import NOT_BUILT, ApiError, Context, invalid
from local.sagemaker.store import Record


def named(kind: str, member: str) -> Callable[[Context, dict[str, Any]], str]:
    """Return a function that makes an ARN, for IAM's check, from the name in the parameter `member`."""
    return lambda context, params: context.arn(kind, str(params.get(member, "")))


def create(
    context: Context, kind: str, name: str, record: Record, given: tags.Tags | None, taken: str
) -> str:
    """Store a new resource with its tags and return its ARN. Raises ApiError if the name is taken.

    :param given: tags
    :param taken: message of the error for a taken name
    """
    arn = context.arn(kind, name)
    tags.check(context, given)
    if not context.store.add(kind, name, record):
        raise invalid(taken)
    tags.attach(context, arn, given)
    return arn


def find(context: Context, kind: str, name: str, missing: str) -> Record:
    """Return a resource's record. Raises ApiError with the message `missing` if it does not exist."""
    record = context.store.get(kind, name)
    if record is None:
        raise invalid(missing)
    return record


def remove(context: Context, kind: str, name: str, missing: str) -> None:
    """Remove a resource and its tags. Raises ApiError with the message `missing` if it does not exist."""
    if not context.store.remove(kind, name):
        raise invalid(missing)
    tags.forget(context, context.arn(kind, name))


def summary(record: Record, *members: str) -> Record:
    """Return the given members of a record that are not None."""
    return {name: record[name] for name in members if record.get(name) is not None}


def refuse_unbuilt(operation: str, params: dict[str, Any], *members: str) -> None:
    """Raise ApiError, naming the first member, if the request has any of these unsupported members."""
    for member in members:
        if params.get(member):
            raise ApiError(
                NOT_BUILT,
                f"sagemaker:{operation} with {member} is not implemented in the local cloud",
                501,
            )
