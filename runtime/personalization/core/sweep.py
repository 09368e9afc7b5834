"""Does whatever an event should have caused, had it come.

Each chore starts from what the tables say, and calls what the other functions call on an event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from personalization.core.collect import collect
from personalization.core.dispatch import drain, horizon
from personalization.core.model import JobStatus, Request
from personalization.core.notify import NOTIFIED, notify
from personalization.core.pacing import SKEW_SECONDS
from personalization.core.ports import Accounts, Backend, FollowUps, Topic
from personalization.core.purge import purge

log = logging.getLogger(__name__)

T = TypeVar("T")

JOBS_AT_ONCE = 100
"""Jobs that one run looks at; the next goes on."""
NOTIFIABLE_SECONDS = 3_600
"""How long after the end of a request its notification is still worth sending."""
QUEUE_SHOWN = 1_000
"""A longer queue is reported as so long."""
DISPATCH_SECONDS = 20


@dataclass(frozen=True)
class Sweeper:
    """Its chores raise nothing; each returns what went wrong."""

    backend: Backend
    accounts: Accounts
    follow_ups: FollowUps
    topic: Topic
    sleep: Callable[[float], None] = time.sleep

    def sweep(self) -> None:
        """Do every chore. Raises `ExceptionGroup` after all were tried."""
        chores = (self.jobs, self.queue, self.deletions, self.notifications)
        if failures := [failure for chore in chores for failure in chore()]:
            raise ExceptionGroup("the sweeper", failures)

    def jobs(self) -> list[Exception]:
        """Collect jobs that have been silent for too long."""
        backend, now = self.backend, self.backend.clock.now()
        due = backend.store.due(JobStatus.CREATED, now, JOBS_AT_ONCE, horizon=horizon(backend, now))
        return tried(due, lambda job: collect(backend, job))

    def queue(self) -> list[Exception]:
        """Launch claimed jobs that were never created, and dispatch requests that nobody took."""
        backend = self.backend
        waiting = backend.store.queue(QUEUE_SHOWN)
        backend.count("QueueDepth", len(waiting))
        oldest = backend.clock.now() - waiting[0].updated if waiting else 0.0
        backend.count("OldestQueuedSeconds", max(0.0, oldest))
        return tried([backend], lambda backend: drain(backend, DISPATCH_SECONDS, self.sleep))

    def deletions(self) -> list[Exception]:
        """Purge deleted models of which something was left, and once more those whose tombstone expires."""
        now, pace = self.backend.clock.now(), self.backend.pace
        expired = now - pace.tombstone_seconds
        found = self.follow_ups.not_purged(now - pace.stale_seconds, expired, now + SKEW_SECONDS)

        def finish(listed: Request) -> None:
            for request in self.backend.store.requests([listed.request]):
                purge(self.backend, self.accounts, self.follow_ups, request)
                job = self.backend.store.job(request.job) if request.job else None
                if request.updated < expired and (job is None or job.status == JobStatus.ENDED):
                    self.accounts.forget_request(request.request)

        return tried(found, finish)

    def notifications(self) -> list[Exception]:
        """Notify users of ends of which nobody was told."""
        now = self.backend.clock.now()
        between = (now - NOTIFIABLE_SECONDS, now - self.backend.pace.stale_seconds)
        failures = []
        for status in NOTIFIED:
            found = self.follow_ups.not_notified(status, between, now + SKEW_SECONDS)
            failures += tried(found, lambda request: notify(self.follow_ups, self.topic, request))
        return failures


def tried(things: Sequence[T], work: Callable[[T], None]) -> list[Exception]:
    """Work on each of `things`, whether the others fail or not; returns the failures."""
    failures = []
    for thing in things:
        try:
            work(thing)
        except Exception as error:
            log.exception("a chore failed")
            failures.append(error)
    return failures
