"""From the queue into training jobs.

A job is *claimed* first: one transaction writes the job with its list of requests, and marks each of them as
the job's. From then on it has a name, and whatever happens is repeated under that name: SageMaker takes a
name once: no repetition makes a second job, and no request is in two.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from personalization import ids, keys
from personalization.collect import give_up
from personalization.jobs import job_request
from personalization.model import IN_JOB, Job, JobStatus, Request, Status, trigger
from personalization.pacing import take
from personalization.packing import pack
from personalization.ports import Backend, PutOff, Refused

log = logging.getLogger(__name__)

LONGEST_WAIT = 300.0
"""Seconds between two tries to create a job that was put off."""


def dispatch(backend: Backend) -> float | None:
    """Create one training job, if any waits and the pace allows it.

    Returns the seconds after which it is worth calling again: 0 for at once, None when nothing waits.
    """
    now = backend.clock.now()
    claimed = backend.store.due(JobStatus.CLAIMED, now + LONGEST_WAIT, limit=10)
    due = [job for job in claimed if job.not_before <= now]
    # While SageMaker takes no more, requests wait in the queue, where they pack best.
    if not due and (put_off := [job.not_before - now for job in claimed if job.attempt > 1]):
        return min(put_off)
    waiting = [] if due else backend.store.queue(backend.settings.capacity)
    if not due and not waiting:
        return None
    last = backend.store.bucket()
    if wait := take(
        backend.store.bucket, backend.store.swap_bucket, now, backend.pace.rate, backend.pace.burst
    ):
        return wait
    # While jobs follow each other within the time that instances are kept, keeping them saves their start.
    keep_alive = backend.settings.keep_alive
    steady = bool(keep_alive and last and now - last.at <= keep_alive)
    job = due[0] if due else claim(backend, waiting, steady)
    if job:
        launch(backend, job)
    return 0.0


def drain(backend: Backend, seconds: float, sleep: Callable[[float], None]) -> None:
    """Dispatch until nothing waits, or the next job would have to wait past so many seconds from now."""
    end = backend.clock.now() + seconds
    while (wait := dispatch(backend)) is not None and backend.clock.now() + wait < end:
        if wait:
            sleep(wait)


def claim(backend: Backend, requests: list[Request], steady: bool) -> Job | None:
    """Make these QUEUED requests the own of a new job. None when another dispatcher took one of them."""
    now, settings = backend.clock.now(), backend.settings
    last_chance = any(request.attempt >= request.last_attempt > 1 for request in requests)
    job = Job(
        job=f"{backend.prefix}-{ids.new(now)}",
        status=JobStatus.CLAIMED,
        requests=tuple(request.request for request in requests),
        hosts=min(settings.hosts_max, -(-len(requests) // settings.tasks_per_host)),
        # SageMaker keeps no spot instances; and who was interrupted before is not again.
        spot=settings.spot and not steady and not last_chance,
        warm=steady,
        attempt=1,
        # Until then its launch is left to whoever claimed it.
        not_before=now + backend.pace.stale_seconds,
        updated=now,
    )
    changes = [
        (request, replace(request, status=Status.LAUNCHED, job=job.job, reason="", updated=now))
        for request in requests
    ]
    return job if backend.store.claim(job, changes) else None


def launch(backend: Backend, job: Job) -> None:
    """Create the claimed job in SageMaker. May be repeated: what it writes follows from its requests."""
    if job.attempt > backend.pace.max_launches:
        abandon(backend, job)
        return
    members = [request for request in backend.store.requests(job.requests) if request.job == job.job]
    if not any(request.status in IN_JOB for request in members):  # all were deleted meanwhile
        backend.store.change(job, replace(job, status=JobStatus.ENDED, updated=backend.clock.now()))
        return
    members = [request for request in members if request.status != Status.DELETED]
    write_inputs(backend, job, members)
    try:
        backend.training.create(job_request(backend, job, min(job.hosts, len(members))))
    except PutOff as error:
        log.warning("%s is put off: %s", job.job, error)
        backend.count("JobsPutOff", 1)
        wait, now = min(LONGEST_WAIT, 2.0**job.attempt), backend.clock.now()
        later = replace(job, attempt=job.attempt + 1, not_before=now + wait, updated=now)
        backend.store.change(job, later)
    except Refused as error:
        log.error("%s is refused: %s", job.job, error)
        abandon(backend, job)
    else:
        backend.count("JobsLaunched", 1)
        now = backend.clock.now()
        created = replace(
            job, status=JobStatus.CREATED, not_before=now + backend.pace.stale_seconds, updated=now
        )
        backend.store.change(job, created)


def abandon(backend: Backend, job: Job) -> None:
    """The job cannot be created. Unless it was: an answer may have been lost, and then it is collected."""
    if backend.training.describe(job.job) is None:
        give_up(backend, job)


def write_inputs(backend: Backend, job: Job, requests: list[Request]) -> None:
    """`tasks.json`, the manifest of the pictures, and what earlier jobs had reached."""
    for request in requests:
        if request.previous:
            restore(backend, job, request)
    images = [image for request in requests for image in request.images_in_uploads]
    manifest: list[Any] = [{"prefix": f"s3://{backend.bucket}/{keys.UPLOADS}"}, *images]
    backend.objects.put(keys.manifest(job.job), _json(manifest), "application/json")
    tasks = {"version": 1, "tasks": plan(backend, job, requests)}
    backend.objects.put(keys.tasks(job.job), _json(tasks), "application/json")


def plan(backend: Backend, job: Job, requests: list[Request]) -> list[dict[str, Any]]:
    """The tasks, each with its instance; an instance works on its own in this order."""
    hosts = pack([request.estimate for request in requests], min(job.hosts, len(requests)))
    return [
        _task(backend, requests[position], host)
        for host, positions in enumerate(hosts)
        for position in positions
    ]


def _task(backend: Backend, request: Request, host: int) -> dict[str, Any]:
    words = {"trigger": trigger(request.subject), "subject": request.subject}
    task = {
        "request": request.request,
        "images": request.images_in_uploads,
        "subject": request.subject,
        "prompts": [prompt.format(**words) for prompt in backend.settings.prompts],
        "seed": zlib.crc32(request.request.encode()) & 0x7FFFFFFF,
        "host": host,
    }
    return task | ({"steps": request.steps} if request.steps else {})


def restore(backend: Backend, job: Job, request: Request) -> None:
    """Copy what the request's job before had reached into this one's folder; what is there stays."""
    source = keys.checkpoint(request.previous[-1], request.request)
    target = keys.checkpoint(job.job, request.request)
    there = set(backend.objects.list(target))
    for key in backend.objects.list(source):
        copied = target + key.removeprefix(source)
        # Result and progress are this job's to write.
        if copied not in there and not copied.endswith(("/result.json", "/progress.json")):
            backend.objects.copy(key, copied)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
