"""Changes of a job's status, with their events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from local.sagemaker import tags
from local.sagemaker.api import Context, now
from local.sagemaker.jobs.kinds import JobKind
from local.sagemaker.store import Record

ENDED = ("Completed", "Failed", "Stopped")

logger = logging.getLogger(__name__)


def key_of(context: Context, kind: JobKind, name: str) -> tuple[str, ...]:
    """Return the key of a running job in `Store.live`."""
    return kind.records, context.account, context.region, name


def change(context: Context, kind: JobKind, name: str, edit: Callable[[Record, float], bool]) -> bool:
    """Change the record of a job that has not ended, and publish its event. Return whether it was changed.

    :param edit: `(record, moment)`: changes the record in place and returns True, or returns False
    """
    changed = False

    def apply(record: Record) -> None:
        nonlocal changed
        changed = record[kind.status] not in ENDED and edit(record, now())

    record = context.store.change(kind.records, name, apply)
    if changed and record is not None:
        publish(context, kind, record)
    return changed


def put(record: Record, kind: JobKind, status: str, moment: float, members: dict[str, Any]) -> None:
    """Set the status and all given members that are not None."""
    record |= {key: value for key, value in members.items() if value is not None}
    record |= {kind.status: status, "LastModifiedTime": moment}
    if status in ENDED:
        record[kind.ended] = moment


def advance(context: Context, kind: JobKind, name: str, status: str, **members: Any) -> bool:
    """Change the status of a job and publish the event. Return False if the job had already ended.

    :param members: set on the record, except those that are None
    """

    def edit(record: Record, moment: float) -> bool:
        put(record, kind, status, moment, members)
        return True

    return change(context, kind, name, edit)


def start_clock(context: Context, kind: JobKind, name: str) -> None:
    """Set a job's start time. The status does not change, so no event is published."""

    def edit(record: Record) -> None:
        record.setdefault(kind.started, now())

    context.store.change(kind.records, name, edit)


def publish(context: Context, kind: JobKind, record: Record) -> None:
    """Publish a job's state-change event. Times are epoch milliseconds."""
    arn = record[kind.arn]
    detail = _in_milliseconds({name: record[name] for name in kind.event if name in record})
    detail["Tags"] = {tag["Key"]: tag["Value"] for tag in tags.attached(context.store, arn)}
    try:
        context.platform.publish(context.account, context.region, kind.detail_type, detail, arn)
    except Exception:  # a failure of the event bus must not end a job
        logger.exception("Could not publish the state change of %s", arn)


def _in_milliseconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: round(member * 1000)
            if name.endswith("Time") and isinstance(member, int | float)
            else _in_milliseconds(member)
            for name, member in value.items()
        }
    return [_in_milliseconds(item) for item in value] if isinstance(value, list) else value
