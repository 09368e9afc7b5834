"""What every resource's operations do alike: make its record, find it, show it, drop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local.sagemaker import tags
from local.sagemaker.api import NOT_BUILT, ApiError, Context, invalid
from local.sagemaker.store import Record


def named(kind: str, member: str) -> Callable[[Context, dict[str, Any]], str]:
    """What IAM checks for an operation on one resource: its ARN, from the parameter that names it."""
    return lambda context, params: context.arn(kind, str(params.get(member, "")))


def create(
    context: Context, kind: str, name: str, record: Record, given: tags.Tags | None, taken: str
) -> str:
    """Store a new resource with its tags and return its ARN. Raises ApiError, saying `taken`, if there is
    one of that name."""
    arn = context.arn(kind, name)
    tags.check(context, given)
    if not context.store.add(kind, name, record):
        raise invalid(taken)
    tags.attach(context, arn, given)
    return arn


def find(context: Context, kind: str, name: str, missing: str) -> Record:
    """A resource's record. Raises ApiError, saying `missing`, if there is none."""
    record = context.store.get(kind, name)
    if record is None:
        raise invalid(missing)
    return record


def remove(context: Context, kind: str, name: str, missing: str) -> None:
    """Drop a resource and its tags. Raises ApiError, saying `missing`, if there is none."""
    if not context.store.remove(kind, name):
        raise invalid(missing)
    tags.forget(context, context.arn(kind, name))


def summary(record: Record, *members: str) -> Record:
    """These members of a record, where it has them."""
    return {name: record[name] for name in members if record.get(name) is not None}


def refuse_unbuilt(operation: str, params: dict[str, Any], *members: str) -> None:
    """Raises ApiError naming the first of these parameters that is given: it would have no effect here."""
    for member in members:
        if params.get(member):
            raise ApiError(
                NOT_BUILT,
                f"sagemaker:{operation} with {member} is not built in the local cloud",
                501,
            )
