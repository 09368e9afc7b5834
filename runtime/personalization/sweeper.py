"""Lambda on a schedule: does whatever an event should have caused, had it come.

Each of its chores starts from what the tables say, and is what the other Lambdas do on an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from personalization import aws
from personalization.collect import collect
from personalization.dispatch import drain
from personalization.model import JobStatus, Status
from personalization.notifier import TOLD, notify
from personalization.observe import count, logger, metrics
from personalization.purger import forget
from personalization.tables import Item, iso

AT_ONCE = 100
"""Rows of each kind that one run looks at; the next goes on."""
TOLD_SECONDS = 3_600
"""How long after the end of a request its notification is still worth sending."""
QUEUE_SHOWN = 1_000
"""A longer queue is reported as so long."""
DISPATCH_SECONDS = 20


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> None:
    failures = []
    for chore in (jobs, queue, deletions, notifications):
        failures += chore()
    if failures:
        raise ExceptionGroup("the sweeper", failures)


def jobs() -> list[Exception]:
    """Jobs that have been silent for too long."""
    backend = aws.backend()
    due = backend.store.due(JobStatus.CREATED, backend.clock.now(), AT_ONCE)
    return tried(due, lambda job: collect(backend, job))


def queue() -> list[Exception]:
    """Claimed jobs that were never created, and requests that nobody took."""
    backend = aws.backend()
    waiting = backend.store.queue(QUEUE_SHOWN)
    count("QueueDepth", len(waiting))
    count("OldestQueuedSeconds", backend.clock.now() - waiting[0].updated if waiting else 0.0)
    return tried([backend], lambda backend: drain(backend, DISPATCH_SECONDS, time.sleep))


def deletions() -> list[Exception]:
    """Deleted models of which something was left, and once more those whose time as a memory is over."""
    now, pace = time.time(), aws.backend().pace
    over = iso(now - pace.tombstone_seconds)
    rows = aws.table("requests").query(
        "#status = :deleted AND #updated < :stale",
        {"deleted": Status.DELETED, "stale": iso(now - pace.stale_seconds), "over": over},
        index="queue",
        filter="attribute_not_exists(#purged) OR #updated < :over",
        limit=AT_ONCE,
    )

    def finish(row: Item) -> None:
        item = aws.table("requests").get(request=row["request"])
        if item is None:
            return
        forget(item)
        job = aws.backend().store.job(item["job"]) if item["job"] else None
        if item["updated"] < over and (job is None or job.status == JobStatus.ENDED):
            aws.accounts().forget_request(item["request"])

    return tried(rows, finish)


def notifications() -> list[Exception]:
    """Ends of requests of which nobody was told."""
    now, failures = time.time(), []
    between = {"after": iso(now - TOLD_SECONDS), "before": iso(now - aws.backend().pace.stale_seconds)}
    for status in TOLD:
        rows = aws.table("requests").query(
            "#status = :status AND #updated BETWEEN :after AND :before",
            between | {"status": status},
            index="queue",
            filter="attribute_not_exists(#notified) OR #notified <> #attempt",
            limit=AT_ONCE,
        )
        failures += tried(rows, notify)
    return failures


def tried(things: list[Any], work: Callable[[Any], None]) -> list[Exception]:
    """Work on each of `things`, whatever becomes of the others; returns what went wrong."""
    failures = []
    for thing in things:
        try:
            work(thing)
        except Exception as error:
            logger.exception("a chore failed")
            failures.append(error)
    return failures
