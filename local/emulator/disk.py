"""Handling of a full disk: writes that cannot be saved return an error.

State is saved asynchronously (`snapshots.py`): a write is answered before it is on disk. If the disk is
nearly full, saving could fail later. So with less than `SHORT` free bytes, a write is answered after it is
saved. With less than `RESERVE`, writes are refused, except deletions.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from local.emulator import callers, ministack
from local.emulator.reach import Cloud, hook, record, replace, touch
from local.emulator.snapshots import SaveError, Snapshots

SHORT = 256 << 20
"""Free bytes below which a write is answered only after it is saved."""
RESERVE = 32 << 20
"""Free bytes below which writes are refused, so that answered writes can be saved."""
CODE = "InsufficientStorage"
READS = (
    "Get", "Describe", "List", "Query", "Scan", "BatchGet", "TransactGet", "Head", "Receive", "Lookup",
    "Decrypt", "Validate", "Simulate", "AssumeRole", "Invoke",
)  # fmt: skip
"""Prefixes of the names of operations that do not write."""
DELETES = ("Delete", "Remove", "BatchDelete", "Purge", "Terminate", "Stop")

logger = logging.getLogger(__name__)

_lost: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("lost", default=None)
"""Reasons why writes of the current request failed."""


class Disk:
    """The file systems of a cloud's home."""

    def __init__(self, home: Path):
        self._home = home
        self.snapshots = Snapshots(home / "state", _pending.retry)
        self._refused = 0

    def free(self) -> int:
        """Return the free bytes of the home's folders; the minimum, if they are on several file systems."""
        folders = [folder for name in ("", "state", "s3") if (folder := self._home / name).exists()]
        return min((found := os.statvfs(folder)).f_bavail * found.f_frsize for folder in folders)

    def refusal(self, size: int) -> str | None:
        """Return why `size` bytes cannot be written now, or None if they can."""
        free = self.free()
        if free < RESERVE + size:
            return f"The disk of {self._home} is full: {free >> 20} MiB are free. Nothing was written."
        if self.snapshots.failure is not None:
            return (
                f"The state in {self._home} cannot be saved: {self.snapshots.failure}. Nothing was written."
            )
        return None

    async def answer(
        self, application: Callable, scope: dict, admitted: callers.Admitted, send: Callable
    ) -> None:
        """Answer a request. If a write cannot be saved, the response is an error."""
        lost: list[str] = []
        _lost.set(lost)
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return await application(scope, admitted.receive, send)
        size = admitted.length
        if self.free() > SHORT + size and self.snapshots.failure is None:
            held = await _held(application, scope, admitted.receive, send, lost)
            self.snapshots.changed()
            self._say_there_is_room()
            return await self._send(held, lost, admitted, send)
        _, operation = admitted.called
        if operation.startswith(READS) or admitted.is_data_plane:
            await application(scope, admitted.receive, send)
            return self.snapshots.changed()
        deletes = scope["method"] == "DELETE" or operation.startswith(DELETES)
        if not deletes and (reason := self.refusal(size)):
            return await self._refuse(reason, admitted, send)
        held = await _held(application, scope, admitted.receive, None, lost)
        try:
            await asyncio.to_thread(self.snapshots.save)
        except SaveError as error:
            lost.append(str(error))
        else:
            self._say_there_is_room()
        await self._send(held, lost, admitted, send)

    async def _send(
        self, held: list[dict], lost: list[str], admitted: callers.Admitted, send: Callable
    ) -> None:
        if lost:
            reason = f"Could not write to the disk of {self._home}: {lost[0]}"
            return await self._refuse(reason, admitted, send)
        for message in held:
            await send(message)

    async def _refuse(self, reason: str, admitted: callers.Admitted, send: Callable) -> None:
        service, operation = admitted.called
        if not self._refused:
            logger.error(
                "%s Writes are refused until space is free. The first refused one is %s %s",
                reason,
                service,
                operation,
            )
        self._refused += 1
        status, headers, body = refused(service, reason, admitted.headers)
        pairs = [(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    def _say_there_is_room(self) -> None:
        # The message about the full disk may be missing, because the log is on the same disk
        if self._refused:
            logger.error(
                "The disk of %s has free space again. It was full: %d writes were refused",
                self._home,
                self._refused,
            )
            self._refused = 0


async def _held(
    application: Callable, scope: dict, receive: Callable, send: Callable | None, lost: list[str]
) -> list[dict]:
    """Run the application and return the messages of its response that were not sent.

    These are all messages if `send` is None, or else the messages after the first failed write.

    :param lost: reasons of failed writes, to which the application appends
    """
    held: list[dict] = []

    async def hold(message: dict) -> None:
        if send is None or lost:
            held.append(message)
        else:
            await send(message)

    await application(scope, receive, hold)
    return held


def refused(service: str, reason: str, headers: dict) -> tuple[int, dict, bytes]:
    """Return an error response in the protocol of a service, with a status that SDKs do not retry."""
    answer = touch(
        "core.iam_actions.access_denied_response", "service", "action", "principal_arn", "request_id"
    )
    _, given, body = answer(
        service, "", "", str(uuid.uuid4()), error_code=CODE, message=reason, headers=headers
    )
    return 507, given, body


class _Pending:
    """Failed S3 writes that are retried. Writes to one key stay in order and do not delay other keys."""

    def __init__(self) -> None:
        self._writes: dict[tuple[str, ...], list[Callable[[], None]]] = {}
        """Pending writes by (account, bucket, key)."""
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Block retries while an object is removed, so that a retry cannot restore it."""
        with self._lock:
            yield

    def write(self, name: tuple[str, ...], first: Callable[[], None], again: Callable[[], None]) -> list[str]:
        """Write now, after the pending writes of the key. Return the reason of a failure, empty on success.

        :param name: account, bucket and key
        :param first: does the write
        :param again: does the write when it is retried
        """
        with self._lock:
            lost = self._write(name) or _attempt(first)
            if lost:
                if name not in self._writes:
                    logger.error("Could not write s3://%s/%s; it will be retried: %s", *name[1:], lost[0])
                self._writes.setdefault(name, []).append(again)
            return lost

    def retry(self) -> None:
        """Retry every pending write. Raises `OSError` if one still fails."""
        lost: list[str] = []
        for name in list(self._writes):
            with self._lock:
                lost += self._write(name)
        if lost:
            raise OSError(lost[0])

    def _write(self, name: tuple[str, ...]) -> list[str]:
        writes = self._writes.get(name, [])
        while writes:
            if lost := _attempt(writes[0]):
                return lost
            del writes[0]
        if self._writes.pop(name, None) is not None:
            logger.error(
                "s3://%s/%s has no failed writes any more: they have succeeded, or are not needed", *name[1:]
            )
        return []


def _attempt(write: Callable[[], None]) -> list[str]:
    """Call `write`. Return the reason of a failure, empty on success."""
    lost: list[str] = []
    token = _lost.set(lost)
    try:
        write()
    except Exception as error:
        lost.append(repr(error))
    finally:
        _lost.reset(token)
    return lost


_pending = _Pending()


class _Failures(logging.Filter):
    """Log filter that collects failed S3 writes. MiniStack only logs such failures and returns status 200."""

    def filter(self, record: logging.LogRecord) -> bool:
        lost = _lost.get()
        if lost is None or not str(record.msg).startswith("Failed to persist S3"):
            return True
        lost.append(str(record.args[-1]) if isinstance(record.args, tuple) else str(record.args))
        return False


@hook
def objects_that_cannot_be_written_are_errors(cloud: Cloud) -> None:
    """MiniStack reports success for an object that it could not write, and only logs the failure."""
    logger, failures = touch("services.s3.logger"), _Failures()
    logger.addFilter(failures)
    record("services.s3.logger", lambda: logger.removeFilter(failures))
    for name, parameters in {
        "_persist_displaced_version": ("bucket_name", "key", "prior_obj", "versioning"),
        "_persist_object": ("bucket", "key", "obj"),
        "_persist_delete_marker": ("bucket_name", "key", "marker"),
    }.items():

        @replace(f"services.s3.{name}", *parameters)
        def persist(original: Callable, bucket: str, key: str, *given: Any) -> None:
            account, region = ministack.here()
            write = functools.partial(original, bucket, key, *given)

            def again() -> None:
                with ministack.scope(account, region):
                    if _still_wanted(original.__name__, bucket, key, given[0]):
                        _write_where_there_is_room(cloud, given[0], write)

            of_request = _lost.get()
            if lost := _pending.write((account, bucket, key), write, again):
                if of_request is not None:
                    of_request += lost
                if cloud:
                    cloud.changed()

    @replace("services.s3._delete_persisted_object", "bucket_name", "key")
    def delete(original: Callable, *given: Any) -> None:
        with _pending.held():
            original(*given)


def _still_wanted(writer: str, bucket: str, key: str, written: Any) -> bool:
    """Return whether a refused write must still be made.

    It must not overwrite a newer version or restore a deleted one. So its object or delete marker must still
    be the key's latest, or its older version must still exist."""
    if writer == "_persist_object":
        kept = touch("services.s3._buckets").get(bucket) or {}
        return kept.get("objects", {}).get(key) is written
    versions = touch("services.s3._object_versions").get((bucket, key)) or []
    if writer == "_persist_delete_marker":
        return bool(versions) and versions[-1] is written
    return written is None or any(
        each["version_id"] == (written.get("version_id") or "null") for each in versions
    )


def _write_where_there_is_room(cloud: Cloud, written: Any, write: Callable[[], None]) -> None:
    # A retry that does not fit would fill the disk temporarily and make other writes fail
    body = written.get("body") if isinstance(written, dict) else None
    reason = cloud.full(len(body)) if body else None
    if reason:
        raise OSError(reason)
    write()


@hook
def tasks_fail_where_nothing_can_be_written(cloud: Cloud) -> None:
    """State machines call services directly, not through `Disk.answer`, so this hook checks these calls."""

    @replace("app.call_service_handler_sync", "handler", "method", "path", "headers", "body", "query_params")
    def call(
        original: Callable, handler: Callable, method: str, path: str, headers: dict, body: Any, query: dict,
        timeout: float | None = None,
    ) -> tuple:  # fmt: skip
        service = headers.get("host", "").partition(".")[0]
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        writes = method not in ("GET", "HEAD", "DELETE") and not operation.startswith((*READS, *DELETES))
        if writes and (reason := cloud.full(len(body or b""))):
            return refused(service, reason, headers)
        lost: list[str] = []
        token = _lost.set(lost)
        try:
            answer = original(handler, method, path, headers, body, query, timeout)
        finally:
            _lost.reset(token)
        return refused(service, lost[0], headers) if lost else answer


@hook
def stacks_are_saved_as_they_change(cloud: Cloud) -> None:
    """CloudFormation changes a stack after it has answered the request. Without this hook, the changes would
    be saved only with the next request."""

    @replace("services.cloudformation.stacks._add_event", "stack_id", "stack_name", "logical_id")
    def add_event(original: Callable, *given: Any, **more: Any) -> Any:
        added = original(*given, **more)
        cloud.changed()
        return added
