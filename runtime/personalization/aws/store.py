"""Requests and jobs in DynamoDB, as `ports.Store`.

A request, its model and the user's count of active fine-tunes change in one transaction. So no reader sees
one change without the others, and no retry counts twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personalization.aws.tables import Item, Table, write
from personalization.core.model import IN_FLIGHT, Job, JobStatus, Request, Status
from personalization.core.pacing import Bucket
from personalization.core.times import iso, seconds

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef as Part

PACE = "#pace"
"""Key of an item in the table `jobs` that is not a job: the token bucket that limits CreateTrainingJob."""
DURATIONS = "#durations"
"""Key of an item in the table `jobs` that is not a job: the mean duration of a training step."""
NEWEST_SHARE = 0.2
"""Weight of the newest measurement in the mean duration."""


@dataclass(frozen=True)
class DynamoStore:
    client: DynamoDBClient
    users: Table
    models: Table
    requests_table: Table
    jobs: Table

    def queue(self, limit: int) -> list[Request]:
        return self._settled(Status.QUEUED, self._by_status(Status.QUEUED, iso(1e11), limit))

    def stale(self, status: Status, before: float, limit: int) -> list[Request]:
        return self._settled(status, self._by_status(status, iso(before), limit))

    def _by_status(self, status: Status, before: str, limit: int) -> list[str]:
        given = {"status": status, "before": before}
        condition = "#status = :status AND #updated < :before"
        items = self.requests_table.query(condition, given, index="queue", limit=limit)
        return [item["request"] for item in items]

    def _settled(self, status: Status, ids: Sequence[str]) -> list[Request]:
        """Return the requests that have `status` in the table; the index is eventually consistent."""
        found = [request for request in self.requests(ids) if request.status == status]
        return sorted(found, key=lambda request: (request.updated, request.request))

    def requests(self, ids: Sequence[str]) -> list[Request]:
        items = self.requests_table.get_all([{"request": name} for name in dict.fromkeys(ids)])
        found = {item["request"]: request_of(item) for item in items}
        return [found[name] for name in ids if name in found]

    def job(self, name: str) -> Job | None:
        item = self.jobs.get(job=name)
        return _job(item) if item else None

    def due(self, status: JobStatus, now: float, limit: int, *, horizon: float) -> list[Job]:
        items = self.jobs.query(
            "#status = :status",
            {"status": status, "now": iso(now), "horizon": iso(horizon)},
            index="open",
            filter="#not_before <= :now OR #not_before > :horizon",
            limit=limit,
        )
        found = [job for item in items if (job := self.job(item["job"])) and job.status == status]
        return [job for job in found if not now < job.not_before <= horizon]

    def claim(self, job: Job, changes: Sequence[tuple[Request, Request]]) -> bool:
        parts = [self.jobs.put(_job_item(job), "attribute_not_exists(#job)")]
        for before, after in changes:
            parts += self._moved(before, after, None)
        return not write(self.client, *parts)

    def move(self, before: Request, after: Request, *, previews: int | None = None) -> bool:
        return not write(self.client, *self._moved(before, after, previews))

    def _moved(self, before: Request, after: Request, previews: int | None) -> list[Part]:
        shared = {
            "status": after.status,
            "updated": iso(after.updated),
            "job": after.job,
            "reason": after.reason,
        }
        own = shared | {
            "attempt": after.attempt,
            "last_attempt": after.last_attempt,
            "previous": after.previous,
            "estimate": after.estimate,
            "requeued_at": iso(after.requeued_at),
        }
        parts = [
            self.requests_table.update(
                {"request": before.request},
                own,
                "#status = :status AND #attempt = :attempt",
                {"status": before.status, "attempt": before.attempt},
            ),
            self.models.update(
                {"user": before.user, "model": before.model},
                shared | ({} if previews is None else {"previews": previews}),
                "#request = :request AND #status = :status",
                {"request": before.request, "status": before.status},
            ),
        ]
        if change := (after.status in IN_FLIGHT) - (before.status in IN_FLIGHT):
            user = {"user": before.user}
            parts.append(self.users.update(user, {}, "attribute_exists(#user)", add={"active": change}))
        return parts

    def change(self, before: Job, after: Job) -> bool:
        item = _job_item(after)
        del item["job"]
        given = {"status": before.status, "attempt": before.attempt}
        condition = "#status = :status AND #attempt = :attempt"
        return not write(self.client, self.jobs.update({"job": before.job}, item, condition, given))

    def bucket(self) -> Bucket | None:
        item = self.jobs.get(job=PACE)
        return bucket_of(item) if item else None

    def swap_bucket(self, before: Bucket | None, after: Bucket) -> bool:
        return swap_bucket(self.jobs, {"job": PACE}, before, after)

    def seconds_per_step(self) -> float | None:
        item = self.jobs.get(job=DURATIONS)
        return item["seconds_per_step"] if item else None

    def learn(self, seconds_per_step: float) -> None:
        known = self.seconds_per_step()
        mean = seconds_per_step
        if known is not None:
            mean = known + NEWEST_SHARE * (seconds_per_step - known)
        change = {"seconds_per_step": float(mean)}
        if known is None:
            write(self.client, self.jobs.update({"job": DURATIONS}, change, "attribute_not_exists(#job)"))
        else:
            unchanged = "#seconds_per_step = :known"
            write(self.client, self.jobs.update({"job": DURATIONS}, change, unchanged, {"known": known}))


def bucket_of(item: Item, prefix: str = "") -> Bucket | None:
    """Return the token bucket in an item; None if the item has no token bucket.

    :param prefix: prefix of the attributes, to distinguish several buckets in an item
    """
    tokens, refilled = f"{prefix}tokens", f"{prefix}refilled"
    return Bucket(item[tokens], item[refilled]) if tokens in item else None


def swap_bucket(
    table: Table, key: dict[str, str], before: Bucket | None, after: Bucket, prefix: str = ""
) -> bool:
    tokens, refilled = f"{prefix}tokens", f"{prefix}refilled"
    change = {tokens: float(after.tokens), refilled: float(after.at)}
    if before is None:
        part = table.update(key, change, f"attribute_not_exists(#{tokens})")
    else:
        known = {tokens: before.tokens, refilled: before.at}
        same = f"#{tokens} = :{tokens} AND #{refilled} = :{refilled}"
        part = table.update(key, change, same, known)
    return not write(table.client, part)


def request_of(item: Item) -> Request:
    return Request(
        request=item["request"],
        user=item["user"],
        model=item["model"],
        subject=item.get("subject", ""),
        images=item.get("images", 0),
        steps=item.get("steps", 0),
        estimate=item.get("estimate", 0.0),
        status=Status(item["status"]),
        attempt=item.get("attempt", 0),
        last_attempt=item.get("last_attempt", 0),
        queued_at=seconds(item["queued_at"]) if "queued_at" in item else 0.0,
        updated=seconds(item["updated"]),
        job=item.get("job", ""),
        previous=tuple(item.get("previous", ())),
        reason=item.get("reason", ""),
        requeued_at=seconds(item["requeued_at"]) if "requeued_at" in item else 0.0,
    )


def request_item(request: Request) -> Item:
    """Return the item of a request in the table `requests`."""
    return {
        "request": request.request,
        "user": request.user,
        "model": request.model,
        "subject": request.subject,
        "images": request.images,
        "steps": request.steps,
        "estimate": request.estimate,
        "status": request.status,
        "attempt": request.attempt,
        "last_attempt": request.last_attempt,
        "queued_at": iso(request.queued_at),
        "updated": iso(request.updated),
        "job": request.job,
        "previous": request.previous,
        "reason": request.reason,
        "requeued_at": iso(request.requeued_at),
    }


def _job(item: Item) -> Job:
    return Job(
        job=item["job"],
        status=JobStatus(item["status"]),
        requests=tuple(item["requests"]),
        hosts=item["hosts"],
        spot=item["spot"],
        warm=item["warm"],
        attempt=item["attempt"],
        not_before=seconds(item["not_before"]),
        updated=seconds(item["updated"]),
        full=item.get("full", False),
    )


def _job_item(job: Job) -> Item:
    return {
        "job": job.job,
        "status": job.status,
        "requests": job.requests,
        "hosts": job.hosts,
        "spot": job.spot,
        "warm": job.warm,
        "attempt": job.attempt,
        "not_before": iso(job.not_before),
        "updated": iso(job.updated),
        "full": job.full,
    }
