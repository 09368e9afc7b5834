"""Shared operations of all kinds of jobs: start, find, list, stop, recover."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from local.sagemaker import records, tags
from local.sagemaker.api import ApiError, Context, invalid, page
from local.sagemaker.instances import clean
from local.sagemaker.jobs.job import Job
from local.sagemaker.jobs.kinds import JobKind
from local.sagemaker.jobs.status import ENDED, advance, key_of, publish
from local.sagemaker.platform import Platform
from local.sagemaker.store import Record, Store


def begin(
    context: Context, job: Job, record: Record, given: tags.Tags | None, check: Callable[[], object]
) -> dict[str, Any]:
    """Store the record of a new job with its tags, start the job and return the response of Create.

    Raises `ResourceInUse` if the name is taken.

    :param given: tags
    :param check: raises ApiError if a quota is exceeded. No other job is stored between check and job
    """
    kind, arn = job.kind, record[job.kind.arn]
    with context.store.store.exclusive():
        check()
        if not context.store.add(kind.records, job.name, record):
            raise ApiError("ResourceInUse", kind.taken.format(arn=arn, name=job.name))
        try:
            tags.attach(context, arn, given)
        except ApiError:
            context.store.remove(kind.records, job.name)
            raise
        context.store.store.live[job.key] = job
        job.admitted(record)
    publish(context, kind, record)
    job.start()
    return {kind.arn: arn}


def find(context: Context, kind: JobKind, params: dict[str, Any]) -> Record:
    name = params[kind.name]
    return records.find(context, kind.records, name, kind.missing.format(name=name))


def summaries(
    context: Context, kind: JobKind, params: dict[str, Any], jobs: Iterable[Record] | None = None
) -> dict[str, Any]:
    """Return one page of a List operation.

    :param jobs: records to list; default: all jobs of the kind
    """
    members = (kind.name, kind.arn, kind.status, kind.ended, "CreationTime", "LastModifiedTime")
    found = context.store.all(kind.records) if jobs is None else jobs
    shown = [records.summary(job, *members) | job for job in found]
    return page(params, shown, f"{kind.noun}JobSummaries")


def stop(
    context: Context,
    kind: JobKind,
    params: dict[str, Any],
    stopping: Callable[[Context, str], bool] | None = None,
) -> None:
    """Request a job to stop. Raises ApiError if it has ended.

    :param stopping: sets the status of kinds that have a secondary status
    """
    name = params[kind.name]
    if find(context, kind, params)[kind.status] == "Stopping":
        return
    if not (stopping(context, name) if stopping else advance(context, kind, name, "Stopping")):
        status = find(context, kind, params)[kind.status]
        raise invalid(f"The request was rejected because the {kind.words} is in status {status}.")
    job = context.store.store.live.get(key_of(context, kind, name))
    if job:
        job.stopping.set()


def recover(
    platform: Platform,
    store: Store,
    kind: JobKind,
    fail: Callable[[Context, str, str], bool] | None = None,
) -> list[str]:
    """Mark the jobs that ran when the last server ended as failed. Return their ARNs.

    Leftover files of their instances are deleted.

    :param fail: `(context, name, reason)`: sets the status of kinds that have a secondary status
    """
    clean(platform, kind.folder)
    lost = []
    for account, region in store.scopes():
        context = Context(platform, store.scoped(account, region))
        for record in context.store.all(kind.records):
            name = record[kind.name]
            if key_of(context, kind, name) in store.live or record[kind.status] in ENDED:
                continue
            reason = kind.abandoned
            failed = (
                fail(context, name, reason)
                if fail
                else advance(context, kind, name, "Failed", FailureReason=reason)
            )
            if failed:
                lost.append(record[kind.arn])
    return lost


def shutdown(store: Store, timeout: float = 10.0) -> None:
    """Stop all jobs at the shutdown of the server: update their records and remove their files.

    :param timeout: seconds to wait for the jobs
    """
    with store.exclusive():
        jobs = [job for job in store.live.values() if isinstance(job, Job)]
    for job in jobs:
        job.abandoned.set()
    until = time.monotonic() + timeout
    for job in jobs:
        job.thread.join(max(0.0, until - time.monotonic()))
