"""The sweeper: does the work of functions whose event was lost.

Each chore reads the tables, and calls the same functions that the event handlers call.
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
"""Maximum number of jobs in one invocation; the next invocation continues."""
NOTIFIABLE_SECONDS = 3_600
"""Time after a request's end during which the sweeper still sends the notification."""
QUEUE_SHOWN = 1_000
"""Maximum queue length that the metric reports."""
DISPATCH_SECONDS = 20


@dataclass(frozen=True)
class Sweeper:
    """Chores of the sweeper. Each returns the exceptions of its items."""

    backend: Backend
    accounts: Accounts
    follow_ups: FollowUps
    topic: Topic
    sleep: Callable[[float], None] = time.sleep

    def sweep(self) -> None:
        """Do every chore. If some fail, raises an `ExceptionGroup` of their errors at the end."""
        chores = (self.jobs, self.queue, self.deletions, self.notifications)
        if failures := [failure for chore in chores for failure in chore()]:
            raise ExceptionGroup("the sweeper could not do all chores", failures)

    def jobs(self) -> list[Exception]:
        """Collect jobs that have had no event for too long."""
        backend, now = self.backend, self.backend.clock.now()
        due = backend.store.due(JobStatus.CREATED, now, JOBS_AT_ONCE, horizon=horizon(backend, now))
        return tried(due, lambda job: collect(backend, job))

    def queue(self) -> list[Exception]:
        """Launch claimed jobs that were never created, and dispatch requests that are still queued."""
        backend = self.backend
        waiting = backend.store.queue(QUEUE_SHOWN)
        backend.count("QueueDepth", len(waiting))
        oldest = backend.clock.now() - waiting[0].updated if waiting else 0.0
        backend.count("OldestQueuedSeconds", max(0.0, oldest))
        return tried([backend], lambda backend: drain(backend, DISPATCH_SECONDS, self.sleep))

    def deletions(self) -> list[Exception]:
        """Purge deleted models that are not purged yet, and again models whose tombstone has expired."""
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
        """Send the missing notifications of requests that have ended."""
        now = self.backend.clock.now()
        between = (now - NOTIFIABLE_SECONDS, now - self.backend.pace.stale_seconds)
        failures = []
        for status in NOTIFIED:
            found = self.follow_ups.not_notified(status, between, now + SKEW_SECONDS)
            failures += tried(found, lambda request: notify(self.follow_ups, self.topic, request))
        return failures


def tried(things: Sequence[T], work: Callable[[T], None]) -> list[Exception]:
    """Call `work` for each of `things`, also after failures; return the exceptions."""
    failures = []
    for thing in things:
        try:
            work(thing)
        except Exception as error:
            log.exception("a chore failed")
            failures.append(error)
    return failures
