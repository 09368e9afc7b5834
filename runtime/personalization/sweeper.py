"""Lambda on a schedule: does whatever an event should have caused, had it come.

Each of its chores starts from what the tables say, and is what the other Lambdas do on an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from personalization import aws
from personalization.collect import collect
from personalization.dispatch import drain, horizon
from personalization.model import JobStatus, Status
from personalization.notifier import TOLD, notify
from personalization.observe import count, logger, metrics
from personalization.pacing import SKEW_SECONDS
from personalization.purger import forget
from personalization.tables import Item, iso

AT_ONCE = 100
"""Rows of each kind that one run looks at; the next goes on."""
TOLD_SECONDS = 3_600
"""How long after the end of a request its notification is still worth sending."""
QUEUE_SHOWN = 1_000
"""A longer queue is reported as so long."""
DISPATCH_SECONDS = 20
UNTOLD = "attribute_not_exists(#notified) OR #notified <> #attempt"
"""Filters requests whose end nobody was told of."""


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
    now = backend.clock.now()
    due = backend.store.due(JobStatus.CREATED, now, AT_ONCE, horizon=horizon(backend, now))
    return tried(due, lambda job: collect(backend, job))


def queue() -> list[Exception]:
    """Claimed jobs that were never created, and requests that nobody took."""
    backend = aws.backend()
    waiting = backend.store.queue(QUEUE_SHOWN)
    count("QueueDepth", len(waiting))
    oldest = backend.clock.now() - waiting[0].updated if waiting else 0.0
    count("OldestQueuedSeconds", max(0.0, oldest))
    return tried([backend], lambda backend: drain(backend, DISPATCH_SECONDS, time.sleep))


def deletions() -> list[Exception]:
    """Deleted models of which something was left, and once more those whose time as a memory is over."""
    now, pace = aws.backend().clock.now(), aws.backend().pace
    over = iso(now - pace.tombstone_seconds)
    rows = aws.table("requests").query(
        "#status = :deleted AND #updated < :stale",
        {"deleted": Status.DELETED, "stale": iso(now - pace.stale_seconds), "over": over},
        index="queue",
        filter="attribute_not_exists(#purged) OR #updated < :over",
        limit=AT_ONCE,
    ) + ahead(Status.DELETED, now, "attribute_not_exists(#purged)")

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
    now, failures = aws.backend().clock.now(), []
    between = {"after": iso(now - TOLD_SECONDS), "before": iso(now - aws.backend().pace.stale_seconds)}
    for status in TOLD:
        rows = aws.table("requests").query(
            "#status = :status AND #updated BETWEEN :after AND :before",
            between | {"status": status},
            index="queue",
            filter=UNTOLD,
            limit=AT_ONCE,
        )
        failures += tried(rows + ahead(status, now, UNTOLD), notify)
    return failures


def ahead(status: Status, now: float, filter: str) -> list[Item]:
    """Rows of `status` that a clock which was ahead has stamped: they are not left until it is that late."""
    return aws.table("requests").query(
        "#status = :status AND #updated > :ahead",
        {"status": status, "ahead": iso(now + SKEW_SECONDS)},
        index="queue",
        filter=filter,
        limit=AT_ONCE,
    )


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
