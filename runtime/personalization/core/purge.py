"""What a deletion means for everything outside the row that says DELETED.

The request's row stays for a while as the memory of what to remove: an upload or a picture may arrive after
the first pass, from someone who looked before the deletion.
"""

from __future__ import annotations

import logging

from personalization.core import keys
from personalization.core.model import IN_JOB, JobStatus, Request, Status
from personalization.core.ports import Accounts, Backend, FollowUps

log = logging.getLogger(__name__)


def purge(backend: Backend, accounts: Accounts, follow_ups: FollowUps, request: Request) -> None:
    """Remove what belonged to the model of a DELETED request; mark the request when nothing is left.

    May be repeated. Does nothing in another status.
    """
    if request.status == Status.DELETED and remove(backend, accounts, request):
        follow_ups.mark_purged(request)
        log.info("nothing is left of %s", request.request)


def remove(backend: Backend, accounts: Accounts, request: Request) -> bool:
    """Remove all objects and rows of a DELETED request's model. May be repeated.

    False while its job runs: then what the job reads and writes is left to a later pass, for a picture that
    vanished would fail the others in the job. A job that runs for nobody else is stopped.
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

    May be repeated. Does nothing while the job runs.
    """
    job = backend.store.job(name)
    if job is None or job.status != JobStatus.ENDED:
        return
    for request in backend.store.requests(job.requests):
        purge(backend, accounts, follow_ups, request)
