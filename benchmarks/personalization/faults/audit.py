"""Check the outcome of every request from the outside.

The sources are the API, the bucket, SageMaker's list of jobs and the topic's messages. Of the pipeline's own
tables, only the users' counters are read."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from benchmarks.personalization.faults.people import Api, Person, Wish, shown

READERS = 8
REASON_OF_BAD = "images[0] cannot be read"


@dataclass
class Audit:
    """Results of the audit. Lists have one sentence for each finding and should be empty."""

    ends: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Adapters that were not made from their user's pictures, bad pictures without a failure, wrong failure
    reasons."""
    left_behind: list[str] = field(default_factory=list)
    """Objects of deleted models that are still in the bucket."""
    counters: list[str] = field(default_factory=list)
    """Users whose number of active fine-tunes is not 0 at the end."""
    untold: list[str] = field(default_factory=list)
    """Requests that ended without a notification."""
    told_again: int = 0
    failed_for_faults: int = 0
    """Number of FAILED requests whose reason is not a bad picture: all their attempts were interrupted."""
    jobs: Counter[str] = field(default_factory=Counter)
    """Number of jobs by status."""
    retries: int = 0
    """Number of jobs of a request after its first job, summed over all requests."""
    unexplained: list[str] = field(default_factory=list)
    """Retries after a job that had completed."""


@dataclass
class JobRecord:
    name: str
    status: str
    began: float
    ended: float
    requests: list[str]


def audit(
    client: Callable[[str], Any],
    outputs: dict[str, str],
    api: Api,
    people: Sequence[Person],
    wishes: Sequence[Wish],
    told: Counter[tuple[str, str]],
) -> Audit:
    """Return the audit of all started requests. `told`: number of notifications by model and status."""
    found, s3, bucket = Audit(), client("s3"), outputs["DataBucket"]
    asked = [wish for wish in wishes if wish.started]
    keys = [
        item["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for item in page.get("Contents", [])
    ]

    def read(key: str) -> bytes:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    with ThreadPoolExecutor(READERS) as readers:
        jobs = list(readers.map(lambda job: _job(job, read, set(keys)), _jobs(client("sagemaker"), outputs)))
        states = {model["model"]: model for model in shown(api, list(people))}
        judge_ends(found, asked, states, keys, lambda names: list(readers.map(read, names)))
        judge_attempts(found, asked, jobs, keys, lambda names: list(readers.map(read, names)))
    for wish in asked:
        status = states.get(wish.model, {}).get("status", "")
        if status in ("READY", "FAILED"):
            times = told[wish.model, status]
            found.told_again += max(0, times - 1)
            if not times:
                found.untold.append(f"{wish.model} is {status}")
    rows = client("dynamodb").get_paginator("scan").paginate(TableName=outputs["UsersTable"])
    for row in (row for page in rows for row in page["Items"]):
        if active := int(row.get("active", {}).get("N", "0")):
            found.counters.append(f"{row['user']['S']}: {active}")
    return found


def judge_ends(
    found: Audit, asked: list[Wish], states: dict[str, Any], keys: list[str], read: Callable[..., list[bytes]]
) -> None:
    """Check the final status of each request, and the adapter in the bucket."""
    of_model: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        for part in key.removesuffix(".tar.gz").split("/"):
            of_model[part].append(key)
    there, ready = set(keys), []
    for wish in asked:
        shown = states.get(wish.model, {"status": "DELETED"})
        status, reason = shown["status"], shown.get("reason", "")
        found.ends[status] += 1
        if wish.deleted:
            if status != "DELETED":
                found.lost.append(f"{wish.model} was deleted and is {status}")
            found.left_behind += of_model[wish.model]
        elif status == "READY":
            target = f"adapters/{wish.person.user}/{wish.model}.tar.gz"
            if wish.bad:
                found.wrong.append(f"{wish.model} has a bad picture and is READY")
            elif target in there:
                ready.append((wish, target))
            else:
                found.lost.append(f"{wish.model} is READY and has no adapter")
        elif status == "FAILED":
            found.failed_for_faults += reason != REASON_OF_BAD
            if not reason or (reason == REASON_OF_BAD and not wish.bad):
                found.wrong.append(f"{wish.model} is FAILED: {reason!r}")
        else:
            found.lost.append(f"{wish.model} is {status}")
    for (wish, target), archive in zip(ready, read([target for _, target in ready]), strict=True):
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            weights = tar.extractfile("adapter_model.safetensors")
            if weights is None or weights.read() != wish.adapter:
                found.wrong.append(f"{target} is not made of its user's pictures")


def judge_attempts(
    found: Audit, asked: list[Wish], jobs: list[JobRecord], keys: list[str], read: Callable[..., list[bytes]]
) -> None:
    """Check the jobs of each request, and the number of jobs that completed its fine-tune."""
    found.jobs.update(job.status for job in jobs)
    of_request: dict[str, list[JobRecord]] = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.began):
        for request in job.requests:
            of_request[request].append(job)
    results = [key for key in keys if key.startswith("jobs/") and key.endswith("/result.json")]
    completed: Counter[str] = Counter()
    for key, body in zip(results, read(results), strict=True):
        completed[key.split("/")[3]] += json.loads(body)["status"] == "done"
    for wish in asked:
        request, tries = wish.model, of_request[wish.model]
        found.retries += max(0, len(tries) - 1)
        if completed[request] > 1:
            found.duplicates.append(f"{request} was completed {completed[request]} times")
        for before, after in pairwise(tries):
            if after.began < before.ended:
                found.duplicates.append(f"{request} was in {before.name} and {after.name} at once")
            if before.status == "Completed":
                found.unexplained.append(f"{request} was in {after.name} after {before.name} had completed")


def _jobs(sagemaker: Any, outputs: dict[str, str]) -> list[dict[str, Any]]:
    pages = sagemaker.get_paginator("list_training_jobs").paginate(NameContains=outputs["JobPrefix"])
    return [job for page in pages for job in page["TrainingJobSummaries"]]


def _job(summary: dict[str, Any], read: Callable[[str], bytes], keys: set[str]) -> JobRecord:
    name = summary["TrainingJobName"]
    tasks = f"jobs/{name}/tasks.json"
    return JobRecord(
        name=name,
        status=summary["TrainingJobStatus"],
        began=summary["CreationTime"].timestamp(),
        ended=summary["TrainingEndTime"].timestamp() if "TrainingEndTime" in summary else float("inf"),
        requests=[task["request"] for task in json.loads(read(tasks))["tasks"]] if tasks in keys else [],
    )
