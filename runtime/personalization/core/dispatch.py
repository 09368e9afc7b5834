"""From the queue into training jobs.

A job is *claimed* first: one transaction writes the job with its list of requests, and marks each of them as
the job's. From then on it has a name, and whatever happens is repeated under that name: SageMaker takes a
name once: no repetition makes a second job, and no request is in two.
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
from personalization.core.ports import Backend, PutOff, QuotaExceededError, Refused

log = logging.getLogger(__name__)

LONGEST_WAIT = 300.0
"""Seconds between two tries to create a job that was put off."""
PUT_OFF_AT_ONCE = 8
"""With so many jobs put off, SageMaker itself is in trouble, and no further one is begun."""
LOOKED_AT = 300
"""Queued requests, oldest first, of which a job's are chosen."""
FURTHER_SECONDS = 3600.0
"""Each further request of one user waits as if it had come so much later."""


def dispatch(backend: Backend) -> float | None:
    """Create one training job, if any waits and the pace allows it.

    Returns the seconds after which it is worth calling again: 0 for at once, None when nothing waits.
    """
    now = backend.clock.now()
    latest = horizon(backend, now)
    # All that were put off, also by a dispatcher whose clock is ahead of this one's
    until = now + LONGEST_WAIT + SKEW_SECONDS
    claimed = backend.store.due(JobStatus.CLAIMED, until, limit=100, horizon=latest)
    due = next((job for job in claimed if not now < job.not_before <= latest), None)
    if due is None and (wait := held(claimed, now)):
        return wait
    # A job without requests stands for the wait for instances: whose turn it is, is decided when it is over
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
    # While jobs follow each other within the time that instances are kept, keeping them saves their start.
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
        job = None  # another dispatcher was faster
    if job:
        launch(backend, job)
    return 0.0


def held(claimed: Sequence[Job], now: float) -> float:
    """The seconds for which no further job is begun, given those that were put off; 0 for none.

    A job that is put off holds nobody else's requests, unless no other job could start either: then all wait
    in the queue.
    """
    put_off = [job for job in claimed if job.attempt > 1]
    if any(job.full for job in put_off) or len(put_off) >= PUT_OFF_AT_ONCE:
        return min(job.not_before - now for job in put_off)
    return 0.0


def fairest(waiting: Sequence[Request], most: int, now: float) -> list[Request]:
    """The `most` of these requests to train next: by the time they came, a user's further ones later.

    So nobody's first request waits for another's many, and no request waits forever: the delay is bounded by
    how many its own user has before it. One that a wrong clock stamped has waited for nobody knows how long:
    it goes first.
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
    """For each of the requests, how many of its user's are before it."""
    earlier: Counter[str] = Counter()
    numbers = []
    for request in requests:
        numbers.append(earlier[request.user])
        earlier[request.user] += 1
    return numbers


def horizon(backend: Backend, now: float) -> float:
    """The latest moment to which a job is put off."""
    return now + max(LONGEST_WAIT, backend.pace.stale_seconds) + SKEW_SECONDS


def drain(
    backend: Backend,
    seconds: float,
    sleep: Callable[[float], None],
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Dispatch until nothing waits, or the next job would have to wait past so many seconds from now."""
    end = monotonic() + seconds
    while (wait := dispatch(backend)) is not None and monotonic() + wait < end:
        if wait:
            sleep(wait)


def claim(backend: Backend, requests: list[Request], steady: bool, attempt: int = 1) -> Job | None:
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
        attempt=attempt,
        # Until then its launch is left to whoever claimed it.
        not_before=now + backend.pace.stale_seconds,
        updated=now,
    )
    changes = [
        (request, replace(request, status=Status.LAUNCHED, job=job.job, reason="", updated=now))
        for request in requests
    ]
    return job if backend.store.claim(job, changes) else None


def take_over(backend: Backend, job: Job) -> Job | None:
    """Make the launch of a due job this caller's own. None when another dispatcher was faster."""
    now = backend.clock.now()
    taken = replace(
        job, attempt=job.attempt + 1, not_before=now + backend.pace.stale_seconds, full=False, updated=now
    )
    return taken if backend.store.change(job, taken) else None


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
    job = replace(job, hosts=min(job.hosts, len(members)))
    write_inputs(backend, job, members)
    try:
        create(backend, job, members)
    except PutOff as error:
        log.warning("%s is put off: %s", job.job, error)
        backend.count("JobsPutOff", 1)
        put_off(backend, job, members, isinstance(error, QuotaExceededError))
    except Refused as error:
        log.error("%s is refused: %s", job.job, error)
        abandon(backend, job)


def create(backend: Backend, job: Job, members: list[Request]) -> None:
    """Create the job on the first kind of capacity that has room, with fewer instances if it has to.

    A quota that cannot hold the job moves it to the other kind; one that is only in use makes it wait, for
    the kind that the settings name. Raises `PutOff`, `Refused`.
    """
    wanted = backend.settings.spot
    kinds = list(dict.fromkeys((job.spot, wanted, not wanted)))
    reason = None
    while kinds:
        asked = replace(job, spot=kinds[0], warm=job.warm and not kinds[0])
        try:
            backend.training.create(job_request(backend, asked, job.hosts))
        except QuotaExceededError as error:
            log.warning("%s, spot %s: %s", job.job, asked.spot, error)
            # A wait for the configured kind is told of rather than the lack of another
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
    raise reason or PutOff("no kind of capacity was tried")


def created(backend: Backend, job: Job, asked: Job) -> None:
    """SageMaker has the job, as it was asked for."""
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
    """Make the job fit `hosts` instances: those of its requests that do not, return to the queue.

    None when there is nothing to narrow: SageMaker has the job already, or another dispatcher does.
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
    """Try again later. While all instances are in use (`full`) the requests wait in the queue, not in the
    job: whose turn it is, is decided when one is free."""
    if full and not release(backend, job, members):
        return
    # The first launch is known from later ones by its number
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
    """Put requests of a job that was never created back to the place in the queue that they had.

    False, with nothing done, when SageMaker has the job after all or another dispatcher has taken it over.
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
    """The tasks, each with its instance; an instance works on its own in this order.

    Users' first requests come before their further ones, and short ones before long ones: that ends no
    instance later, and most people wait less.
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
