"""The dispatcher: packs queued requests into training jobs.

A job is *claimed* first: one transaction writes the job with its list of requests, and assigns each request
to the job. All retries use the job's name. SageMaker accepts a name once, so a retry creates no second job,
and no request is in two jobs.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from personalization.core import ids, keys
from personalization.core.collect import give_up
from personalization.core.jobs import job_request
from personalization.core.model import IN_JOB, Job, JobStatus, Request, Status, trigger
from personalization.core.pacing import SKEW_SECONDS, is_ahead, take
from personalization.core.packing import pack
from personalization.core.ports import Backend, JobRefusedError, LaunchPostponedError, QuotaExceededError

log = logging.getLogger(__name__)

LONGEST_WAIT = 300.0
"""Maximum number of seconds between two attempts to create a job that was put off."""
PUT_OFF_AT_ONCE = 8
"""If this many jobs are put off, no further job is started: SageMaker itself probably fails."""
LOOKED_AT = 300
"""Number of queued requests, oldest first, from which the requests of a job are chosen."""
FURTHER_SECONDS = 3600.0
"""Seconds by which each earlier request of the same user moves a request back in the queue."""


def dispatch(backend: Backend) -> float | None:
    """Create one training job if requests wait and the rate limiter allows it.

    Returns the seconds until the next call is useful: 0 for at once, None if nothing waits.
    """
    now = backend.clock.now()
    latest = horizon(backend, now)
    # `until` covers all jobs that were put off, even by a dispatcher whose clock is ahead
    until = now + LONGEST_WAIT + SKEW_SECONDS
    claimed = backend.store.due(JobStatus.CLAIMED, until, limit=100, horizon=latest)
    due = next((job for job in claimed if not now < job.not_before <= latest), None)
    if due is None and (wait := held(claimed, now)):
        return wait
    # A job without requests records a wait for instances. Its requests are chosen after the wait
    again = due if due and due.requests else None
    waiting = [] if again else backend.store.queue(LOOKED_AT)
    if not again and not waiting:
        if due:
            backend.store.change(due, replace(due, status=JobStatus.ENDED, updated=now))
        return None
    last = backend.store.bucket()
    if wait := take(
        backend.store.bucket, backend.store.swap_bucket, now, backend.pace.rate, backend.pace.burst
    ):
        return wait
    # If jobs follow each other within the keep-alive time, warm instances save the time to start instances
    keep_alive = backend.settings.keep_alive
    steady = bool(keep_alive and last and not is_ahead(last.at, now) and now - last.at <= keep_alive)
    waiting = fairest(waiting, backend.settings.capacity, now)
    if again:
        job = take_over(backend, again)
    elif due is None:
        job = claim(backend, waiting, steady)
    elif backend.store.change(due, replace(due, status=JobStatus.ENDED, updated=now)):
        job = claim(backend, waiting, steady, due.attempt + 1)
    else:
        job = None  # another dispatcher has already changed the job
    if job:
        launch(backend, job)
    return 0.0


def held(claimed: Sequence[Job], now: float) -> float:
    """Return the seconds until a further job may be started, in view of jobs that were put off; 0: now.

    A job that was put off delays no other requests, unless no other job could start either: all instances
    are in use, or too many jobs are put off.
    """
    put_off = [job for job in claimed if job.attempt > 1]
    if any(job.full for job in put_off) or len(put_off) >= PUT_OFF_AT_ONCE:
        return min(job.not_before - now for job in put_off)
    return 0.0


def fairest(waiting: Sequence[Request], most: int, now: float) -> list[Request]:
    """Return at most `most` of these requests to train next.

    Requests that wait longer come first, but each earlier request of the same user moves a request back by
    `FURTHER_SECONDS`. So a user's first request does not wait for many requests of another user. A request
    whose time comes from a wrong clock has an unknown waiting time and goes first.
    """
    numbers = numbered(waiting)
    order = [
        (
            (0.0 if is_ahead(request.updated, now) else request.updated) + number * FURTHER_SECONDS,
            request.request,
            request,
        )
        for number, request in zip(numbers, waiting, strict=True)
    ]
    return [request for *_, request in sorted(order, key=lambda entry: entry[:2])[:most]]


def numbered(requests: Sequence[Request]) -> list[int]:
    """Return for each request the number of earlier requests of the same user."""
    earlier: Counter[str] = Counter()
    numbers = []
    for request in requests:
        numbers.append(earlier[request.user])
        earlier[request.user] += 1
    return numbers


def horizon(backend: Backend, now: float) -> float:
    """Return the latest time until which a job may be put off."""
    return now + max(LONGEST_WAIT, backend.pace.stale_seconds) + SKEW_SECONDS


def drain(
    backend: Backend,
    seconds: float,
    sleep: Callable[[float], None],
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Dispatch until nothing waits, or the next job cannot start within `seconds` from now."""
    end = monotonic() + seconds
    while (wait := dispatch(backend)) is not None and monotonic() + wait < end:
        if wait:
            sleep(wait)


def claim(backend: Backend, requests: list[Request], steady: bool, attempt: int = 1) -> Job | None:
    """Assign QUEUED requests to a new job. Return None if another dispatcher took one of them."""
    now, settings = backend.clock.now(), backend.settings
    last_chance = any(request.attempt >= request.last_attempt > 1 for request in requests)
    job = Job(
        job=f"{backend.prefix}-{ids.new(now)}",
        status=JobStatus.CLAIMED,
        requests=tuple(request.request for request in requests),
        hosts=min(settings.hosts_max, -(-len(requests) // settings.tasks_per_host)),
        # SageMaker keeps no spot instances warm. A last attempt after an interruption does not use spot.
        spot=settings.spot and not steady and not last_chance,
        warm=steady,
        attempt=attempt,
        # Before this time, only this dispatcher launches the job.
        not_before=now + backend.pace.stale_seconds,
        updated=now,
    )
    changes = [
        (request, replace(request, status=Status.LAUNCHED, job=job.job, reason="", updated=now))
        for request in requests
    ]
    return job if backend.store.claim(job, changes) else None


def take_over(backend: Backend, job: Job) -> Job | None:
    """Take over the launch of a due job. Return None if another dispatcher has already taken it over."""
    now = backend.clock.now()
    taken = replace(
        job, attempt=job.attempt + 1, not_before=now + backend.pace.stale_seconds, full=False, updated=now
    )
    return taken if backend.store.change(job, taken) else None


def launch(backend: Backend, job: Job) -> None:
    """Create the claimed job in SageMaker. Idempotent: the job's files depend only on its requests."""
    if job.attempt > backend.pace.max_launches:
        abandon(backend, job)
        return
    members = [request for request in backend.store.requests(job.requests) if request.job == job.job]
    if not any(request.status in IN_JOB for request in members):  # all were deleted meanwhile
        backend.store.change(job, replace(job, status=JobStatus.ENDED, updated=backend.clock.now()))
        return
    members = [request for request in members if request.status != Status.DELETED]
    job = replace(job, hosts=min(job.hosts, len(members)))
    write_inputs(backend, job, members)
    try:
        create(backend, job, members)
    except LaunchPostponedError as error:
        log.warning("the creation of job %s is put off: %s", job.job, error)
        backend.count("JobsPutOff", 1)
        put_off(backend, job, members, isinstance(error, QuotaExceededError))
    except JobRefusedError as error:
        log.error("SageMaker rejects job %s: %s", job.job, error)
        abandon(backend, job)


def create(backend: Backend, job: Job, members: list[Request]) -> None:
    """Create the job on the first kind of capacity (spot or on demand) that is free.

    If only a part of a quota is free, the job gets fewer instances. If the quota of the configured kind is
    fully used, the job waits for it; if that quota is 0 or unknown, the other kind is tried.
    Raises `LaunchPostponedError`, `JobRefusedError`.
    """
    wanted = backend.settings.spot
    kinds = list(dict.fromkeys((job.spot, wanted, not wanted)))
    reason = None
    while kinds:
        asked = replace(job, spot=kinds[0], warm=job.warm and not kinds[0])
        try:
            backend.training.create(job_request(backend, asked, job.hosts))
        except QuotaExceededError as error:
            log.warning("job %s, spot %s: %s", job.job, asked.spot, error)
            # Report the error for the configured kind of instance, spot or on-demand, rather than for the
            # other kind
            reason = error if reason is None or asked.spot == wanted else reason
            if 1 <= error.free < job.hosts:
                narrower = narrow(backend, job, members, error.free)
                if narrower is None:
                    return
                job, members = narrower
                continue
            kinds = kinds[1:]
            if asked.spot == wanted and error.limit:
                break
        else:
            created(backend, job, asked)
            return
    raise reason or LaunchPostponedError("no kind of capacity was tried")


def created(backend: Backend, job: Job, asked: Job) -> None:
    """Record that SageMaker has created the job, as requested in `asked`."""
    backend.count("JobsLaunched", 1)
    if asked.spot != job.spot:
        backend.count("JobsOnOtherCapacity", 1)
    now = backend.clock.now()
    changed = replace(
        asked, status=JobStatus.CREATED, not_before=now + backend.pace.stale_seconds, full=False, updated=now
    )
    backend.store.change(job, changed)


def narrow(
    backend: Backend, job: Job, members: list[Request], hosts: int
) -> tuple[Job, list[Request]] | None:
    """Reduce the job to `hosts` instances, and requeue the requests for which it has no room then.

    Returns None if SageMaker already has the job or another dispatcher took it over.
    """
    kept = members[: hosts * backend.settings.tasks_per_host]
    if not release(backend, job, members[len(kept) :]):
        return None
    narrower = replace(job, hosts=hosts, requests=tuple(request.request for request in kept))
    if not backend.store.change(job, narrower):
        return None
    write_inputs(backend, narrower, kept)
    return narrower, kept


def put_off(backend: Backend, job: Job, members: list[Request], full: bool) -> None:
    """Schedule a retry of the job's creation.

    If all instances are in use (`full`), the job's requests return to the queue, and requests are chosen
    again when an instance is free.
    """
    if full and not release(backend, job, members):
        return
    # Attempt 1 means that the job was never put off
    attempt, now = max(2, job.attempt), backend.clock.now()
    later = replace(
        job,
        requests=() if full else job.requests,
        attempt=attempt,
        not_before=now + min(LONGEST_WAIT, 2.0 ** (attempt - 1)),
        full=full,
        updated=now,
    )
    backend.store.change(job, later)


def release(backend: Backend, job: Job, requests: Sequence[Request]) -> bool:
    """Put requests back to their former places in the queue, because their job was not created.

    Returns False, without moving them, if SageMaker has the job or another dispatcher has taken it over.
    """
    if backend.training.describe(job.job) is not None:
        created(backend, job, job)
        return False
    known = backend.store.job(job.job)
    if known is None or (known.status, known.attempt) != (job.status, job.attempt):
        return False
    for request in requests:
        back = replace(request, status=Status.QUEUED, job="", updated=request.waiting_since)
        backend.store.move(request, back)
    return True


def abandon(backend: Backend, job: Job) -> None:
    """Give up a job that could not be created, unless it exists and only SageMaker's response was lost."""
    if backend.training.describe(job.job) is None:
        give_up(backend, job)


def write_inputs(backend: Backend, job: Job, requests: list[Request]) -> None:
    """Write `tasks.json` and the manifest of the pictures, and copy checkpoints of earlier jobs."""
    for request in requests:
        if request.previous:
            restore(backend, job, request)
    images = [image for request in requests for image in request.images_in_uploads]
    manifest: list[Any] = [{"prefix": f"s3://{backend.bucket}/{keys.UPLOADS}"}, *images]
    backend.objects.put(keys.manifest(job.job), _json(manifest), "application/json")
    tasks = {"version": 1, "tasks": plan(backend, job, requests)}
    backend.objects.put(keys.tasks(job.job), _json(tasks), "application/json")


def plan(backend: Backend, job: Job, requests: list[Request]) -> list[dict[str, Any]]:
    """Return the tasks with their hosts. Each host runs its tasks in the returned order.

    On a host, first requests of users come before second requests, and so on; among first requests, and among
    second ones, shorter tasks come first. This order shortens the wait of most users, and has no effect on
    the time at which a host has run all its tasks.
    """
    estimates, numbers = [request.estimate for request in requests], numbered(requests)
    hosts = pack(estimates, min(job.hosts, len(requests)))
    return [
        _task(backend, requests[position], host)
        for host, positions in enumerate(hosts)
        for position in sorted(positions, key=lambda at: (numbers[at], estimates[at]))
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
    """Copy the checkpoint from the request's previous job into this job's folder. Existing files stay."""
    source = keys.checkpoint(request.previous[-1], request.request)
    target = keys.checkpoint(job.job, request.request)
    there = set(backend.objects.list(target))
    for key in backend.objects.list(source):
        copied = target + key.removeprefix(source)
        # This job writes its own result and progress
        if copied not in there and not copied.endswith(("/result.json", "/progress.json")):
            backend.objects.copy(key, copied)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
