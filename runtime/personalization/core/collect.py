"""What happens when a job runs, and when it has ended.

Events ask for it, and the sweeper does when events are lost; it may run any number of times. A job is ENDED
only after each of its requests has left it: a Lambda that dies half way leaves a job that is looked at again.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace

from personalization.core.model import IN_JOB, Job, JobStatus, Request, Status
from personalization.core.ports import Backend, Described
from personalization.core.prepare import prepare

log = logging.getLogger(__name__)

NO_CAPACITY = (
    "There was no room to train your model. Your pictures are kept: start it again in an hour or two."
)
INTERRUPTED = (
    "The training was interrupted again and again. Your pictures are kept: start the model again later."
)
_CAPACITY = re.compile(r"capacity|ResourceLimitExceeded|InsufficientInstance", re.IGNORECASE)


def collect(backend: Backend, job: Job) -> None:
    """Bring the job's requests to where the job is. Raises `ExceptionGroup` after all were tried."""
    if job.status == JobStatus.ENDED:
        return
    described = backend.training.describe(job.job)
    if described is None and job.status == JobStatus.CLAIMED:
        return  # not launched yet: the dispatcher will
    # SageMaker forgets no job; should it, its requests must not wait for ever.
    described = described or Described("Failed", "SageMaker does not know the job")
    if described.ended:
        log.info("%s: %s %s", job.job, described.status, described.reason)
        settle(backend, job, NO_CAPACITY if _CAPACITY.search(described.reason) else INTERRUPTED)
    else:
        follow(backend, job)


def follow(backend: Backend, job: Job) -> None:
    """The job runs: so do its requests. Those that are done are prepared without waiting for the rest."""
    now, failures = backend.clock.now(), []
    for request in _members(backend, job):
        try:
            if request.status == Status.LAUNCHED:
                running = replace(request, status=Status.TRAINING, updated=now)
                request = running if backend.store.move(request, running) else request
            if request.status in IN_JOB:
                prepare(backend, request)
        except Exception as error:  # of one request: the others go on
            failures.append(error)
    left = {request.status for request in _members(backend, job)}
    if Status.DELETED in left and not left & IN_JOB:
        backend.training.stop(job.job)  # it works on for nobody
    later = now + backend.pace.stale_seconds
    backend.store.change(job, replace(job, status=JobStatus.CREATED, not_before=later, updated=now))
    if failures:
        raise ExceptionGroup(f"{job.job} runs", failures)


def settle(backend: Backend, job: Job, reason: str) -> None:
    """The job has ended: each of its requests is prepared, fails, or goes back to the queue.

    `reason` tells the user of one that may not go back why.
    """
    failures = []
    for request in _members(backend, job):
        try:
            if request.status in IN_JOB:
                request = prepare(backend, request)
            if request.status in IN_JOB and request.job == job.job:  # without a whole result
                put_back(backend, request, reason)
        except Exception as error:  # of one request: the others go on
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"{job.job} has ended", failures)
    _end(backend, job)


def give_up(backend: Backend, job: Job) -> None:
    """The job will never be created: its requests go back to the queue, or fail."""
    for request in _members(backend, job):
        if request.status in IN_JOB:
            put_back(backend, request, NO_CAPACITY)
    _end(backend, job)


def put_back(backend: Backend, request: Request, reason: str) -> None:
    """Into the queue once more, to go on from the last checkpoint; or, after the last attempt, it fails."""
    now = backend.clock.now()
    if request.attempt >= request.last_attempt:
        after = replace(request, status=Status.FAILED, reason=reason, updated=now)
    else:
        after = replace(
            request,
            status=Status.QUEUED,
            attempt=request.attempt + 1,
            previous=(*request.previous, request.job),
            job="",
            requeued_at=now,
            updated=now,
        )
    if backend.store.move(request, after):
        backend.count("RequestsFailed" if after.status == Status.FAILED else "RequestsRetried", 1)


def _members(backend: Backend, job: Job) -> list[Request]:
    """The requests that are in this job, not in a later one."""
    return [request for request in backend.store.requests(job.requests) if request.job == job.job]


def _end(backend: Backend, job: Job) -> None:
    if any(request.status in IN_JOB for request in _members(backend, job)):
        return  # somebody else moved one meanwhile: the next look ends it
    backend.store.change(job, replace(job, status=JobStatus.ENDED, updated=backend.clock.now()))
