"""Updates requests from the state of their training job.

An event starts an update; if the event was lost, the sweeper starts it. Updates are idempotent. A job becomes
ENDED only after each of its requests has left it, so a job whose Lambda function was killed midway is
processed again.
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
    "No instance was free to train your model. Your pictures are kept: start it again in an hour or two."
)
INTERRUPTED = "The training was interrupted too often. Your pictures are kept: start the model again later."
_CAPACITY = re.compile(r"capacity|ResourceLimitExceeded|InsufficientInstance", re.IGNORECASE)


def collect(backend: Backend, job: Job) -> None:
    """Update the job's requests from its state in SageMaker.

    If the update of a request fails, updates the others, then raises an `ExceptionGroup` of the errors.
    """
    if job.status == JobStatus.ENDED:
        return
    described = backend.training.describe(job.job)
    if described is None and job.status == JobStatus.CLAIMED:
        return  # not launched yet: the dispatcher launches it
    # SageMaker keeps all jobs. If one is absent nevertheless, its requests must not wait forever.
    described = described or Described("Failed", "the job does not exist in SageMaker")
    if described.ended:
        log.info("%s: %s %s", job.job, described.status, described.reason)
        settle(backend, job, NO_CAPACITY if _CAPACITY.search(described.reason) else INTERRUPTED)
    else:
        follow(backend, job)


def follow(backend: Backend, job: Job) -> None:
    """Update the requests of a running job. A finished request does not wait for the job's other requests."""
    now, failures = backend.clock.now(), []
    for request in _members(backend, job):
        try:
            if request.status == Status.LAUNCHED:
                running = replace(request, status=Status.TRAINING, updated=now)
                request = running if backend.store.move(request, running) else request
            if request.status in IN_JOB:
                prepare(backend, request)
        except Exception as error:  # continue with the other requests
            failures.append(error)
    left = {request.status for request in _members(backend, job)}
    if Status.DELETED in left and not left & IN_JOB:
        backend.training.stop(job.job)  # each of its requests was deleted or has left the job
    later = now + backend.pace.stale_seconds
    backend.store.change(job, replace(job, status=JobStatus.CREATED, not_before=later, updated=now))
    if failures:
        raise ExceptionGroup(f"could not update all requests of the running job {job.job}", failures)


def settle(backend: Backend, job: Job, reason: str) -> None:
    """Prepare, fail or requeue each request of a job that has ended.

    :param reason: message to the user of a request that fails because it has no attempts left
    """
    failures = []
    for request in _members(backend, job):
        try:
            if request.status in IN_JOB:
                request = prepare(backend, request)
            if request.status in IN_JOB and request.job == job.job:  # its result is absent or incomplete
                put_back(backend, request, reason)
        except Exception as error:  # continue with the other requests
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"could not update all requests of the ended job {job.job}", failures)
    _end(backend, job)


def give_up(backend: Backend, job: Job) -> None:
    """Requeue or fail the requests of a job that will never be created."""
    for request in _members(backend, job):
        if request.status in IN_JOB:
            put_back(backend, request, NO_CAPACITY)
    _end(backend, job)


def put_back(backend: Backend, request: Request, reason: str) -> None:
    """Requeue a request to continue from its last checkpoint, or fail it after its last attempt."""
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
    """Return the job's requests, without those that have since left it for a later job."""
    return [request for request in backend.store.requests(job.requests) if request.job == job.job]


def _end(backend: Backend, job: Job) -> None:
    if any(request.status in IN_JOB for request in _members(backend, job)):
        return  # another process changed a request's status meanwhile: the next update ends the job
    backend.store.change(job, replace(job, status=JobStatus.ENDED, updated=backend.clock.now()))
