"""Removal of the objects and rows of deleted models.

The row of a DELETED request is kept for a while as a tombstone: an upload or a picture may arrive after the
first purge, from a process that read the model before the deletion.
"""

from __future__ import annotations

import logging

from personalization.core import keys
from personalization.core.model import IN_JOB, JobStatus, Request, Status
from personalization.core.ports import Accounts, Backend, FollowUps

log = logging.getLogger(__name__)


def purge(backend: Backend, accounts: Accounts, follow_ups: FollowUps, request: Request) -> None:
    """Remove the objects and rows of a DELETED request's model; mark the request when all are removed.

    Idempotent. Does nothing in another status.
    """
    if request.status == Status.DELETED and remove(backend, accounts, request):
        follow_ups.mark_purged(request)
        log.info("removed all objects and rows of request %s", request.request)


def remove(backend: Backend, accounts: Accounts, request: Request) -> bool:
    """Remove all objects and rows of a DELETED request's model. Idempotent.

    While the request's job runs, returns False and leaves uploads and checkpoints to a later purge, because a
    missing picture would fail the other requests of the job. A job without other requests is stopped.
    """
    job = backend.store.job(request.job) if request.job else None
    running = job is not None and job.status != JobStatus.ENDED
    user, model = request.user, request.model
    if job and running:
        others = [other for other in backend.store.requests(job.requests) if other.job == job.job]
        if not any(other.status in IN_JOB for other in others):
            backend.training.stop(job.job)
    folders = [keys.previews(user, model), keys.generations(user, model)]
    if not running:
        jobs = filter(None, [*request.previous, request.job])
        folders += [keys.uploads(user, model)]
        folders += [keys.checkpoint(name, request.request) for name in jobs]
    found = [key for folder in folders for key in backend.objects.list(folder)]
    backend.objects.delete([keys.adapter(user, model), *found])
    accounts.forget(user, model)
    return not running


def purge_deleted(backend: Backend, accounts: Accounts, follow_ups: FollowUps, name: str) -> None:
    """Purge the DELETED requests of a job that has ended. Their uploads and checkpoints were kept until then.

    Idempotent. Does nothing while the job runs.
    """
    job = backend.store.job(name)
    if job is None or job.status != JobStatus.ENDED:
        return
    for request in backend.store.requests(job.requests):
        purge(backend, accounts, follow_ups, request)
