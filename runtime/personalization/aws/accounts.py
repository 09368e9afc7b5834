"""Users' models and generations in DynamoDB, as `ports.Accounts`.

A count changes in the same transaction as the rows it counts, so no change is lost or counted twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from personalization.aws.store import bucket_of, request_item, request_of, swap_bucket
from personalization.aws.tables import Table, write
from personalization.core import ids, keys
from personalization.core.generations import DONE, RUNNING, shown_status
from personalization.core.model import IN_FLIGHT, Request, Status, never_queued, queued
from personalization.core.pacing import take
from personalization.core.ports import (
    AbsentError,
    KeyReusedError,
    LimitReachedError,
    NotReadyError,
    StillRunningError,
)
from personalization.core.rows import GenerationRow, ImageRow, ModelRow
from personalization.core.settings import Limits
from personalization.core.times import iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef as Part

KEY_SECONDS = 86_400
"""Time for which an idempotency key is kept."""
DELETE_TRIES = 5
PICTURES = "picture_"
"""Prefix of the attributes in `users` that have the token bucket of generated pictures. The attributes of the
token bucket of requests have no prefix."""
_AFTER_IDS = ":"
"""Sort key after every generation's id, and before the sort keys of the items with idempotency keys."""


@dataclass(frozen=True)
class DynamoAccounts:
    client: DynamoDBClient
    users: Table
    models: Table
    requests: Table
    generations: Table
    limits: Limits

    # Rate limiters of a user

    def wait(self, user: str, now: float) -> float:
        return self._take(user, "", self.limits.requests_per_minute, 1, now)

    def wait_for_pictures(self, user: str, count: int, now: float) -> float:
        return self._take(user, PICTURES, self.limits.pictures_per_minute, count, now)

    def _take(self, user: str, prefix: str, a_minute: int, count: int, now: float) -> float:
        key = {"user": user}
        return take(
            lambda: bucket_of(self.users.get(**key) or {}, prefix),
            lambda before, after: swap_bucket(self.users, key, before, after, prefix),
            now,
            rate=a_minute / 60,
            burst=a_minute,
            cost=count,
        )

    # Models

    def model(self, user: str, model: str) -> ModelRow:
        found = self.models.get(user=user, model=model) if ids.valid(model) else None
        if not found or found["status"] == Status.DELETED:
            raise AbsentError
        return cast(ModelRow, found)

    def models_of(self, user: str) -> list[ModelRow]:
        given = {"user": user, "deleted": Status.DELETED}
        found = self.models.query(
            "#user = :user",
            given,
            filter="#status <> :deleted",
            newest_first=True,
            limit=self.limits.models + 1,
        )
        return cast(list[ModelRow], found)

    def create(self, user: str, name: str, subject: str, images: Sequence[ImageRow], now: float) -> ModelRow:
        model = ids.new(now)
        item: ModelRow = {
            "user": user,
            "model": model,
            "request": model,
            "name": name,
            "subject": subject,
            "images": list(images),
            "status": Status.CREATED,
            "reason": "",
            "target": keys.target(user, model),
            "previews": 0,
            "created": iso(now),
            "updated": iso(now),
        }
        below = "attribute_not_exists(#models) OR #models < :most"
        count = self.users.update({"user": user}, {}, below, {"most": self.limits.models}, add={"models": 1})
        if write(self.client, count, self.models.put(item, "attribute_not_exists(#model)")):
            raise LimitReachedError("models")
        return item

    def start(self, model: ModelRow, steps: int, estimate: float, attempts: int, now: float) -> None:
        if model["status"] not in (Status.CREATED, Status.FAILED):
            return
        known = self.requests.get(request=model["request"])
        before = request_of(known) if known else None
        after = queued(model, before, steps, estimate, attempts, now)
        below = "attribute_not_exists(#active) OR #active < :most"
        failed = write(
            self.client,
            self._model_moved(model, Status.QUEUED, now),
            self._request_put(before, after),
            self.users.update(
                {"user": model["user"]}, {}, below, {"most": self.limits.active}, add={"active": 1}
            ),
        )
        if failed == {2}:
            raise LimitReachedError("active")
        # Another failed condition means that the same request was sent twice and has already changed the
        # status

    def delete(self, user: str, model: str, now: float) -> None:
        for _ in range(DELETE_TRIES):
            found = self.model(user, model)
            known = self.requests.get(request=found["request"])
            before = request_of(known) if known else None
            after = (
                replace(before, status=Status.DELETED, updated=now) if before else never_queued(found, now)
            )
            active = -1 if before and before.status in IN_FLIGHT else 0
            counts = {"models": -1} | ({"active": active} if active else {})
            if not write(
                self.client,
                self._model_moved(found, Status.DELETED, now),
                self._request_put(before, after),
                self.users.update({"user": user}, {}, "attribute_exists(#user)", add=counts),
            ):
                return
        raise RuntimeError(f"could not delete model {model}: its row changed at every attempt")

    def _model_moved(self, model: ModelRow, status: Status, now: float) -> Part:
        return self.models.update(
            {"user": model["user"], "model": model["model"]},
            {"status": status, "updated": iso(now), "reason": ""},
            "#status = :status",
            {"status": model["status"]},
        )

    def _request_put(self, before: Request | None, after: Request) -> Part:
        if before is None:
            return self.requests.put(request_item(after), "attribute_not_exists(#request)")
        given = {"status": before.status, "attempt": before.attempt}
        return self.requests.put(request_item(after), "#status = :status AND #attempt = :attempt", given)

    # Generations

    def generation(self, user: str, generation: str) -> GenerationRow:
        found = self.generations.get(user=user, generation=generation) if ids.valid(generation) else None
        if not found:
            raise AbsentError
        return cast(GenerationRow, found)

    def generations_of(self, user: str, model: str, before: str | None, limit: int) -> list[GenerationRow]:
        found = self.generations.query(
            "#user = :user AND #generation < :before",
            {"user": user, "before": before or _AFTER_IDS, "model": model},
            filter="#model = :model",
            newest_first=True,
            limit=limit,
        )
        return cast(list[GenerationRow], found)

    def begin(
        self, model: ModelRow, prompt: str, seed: int, count: int, key: str | None, now: float
    ) -> GenerationRow:
        user = model["user"]
        item: GenerationRow = {
            "user": user,
            "generation": ids.new(now),
            "model": model["model"],
            "prompt": prompt,
            "seed": seed,
            "count": count,
            "status": RUNNING,
            "created": iso(now),
            "updated": iso(now),
        }
        parts = [
            self._still_ready(user, model["model"]),
            self.generations.put(item, "attribute_not_exists(#generation)"),
        ]
        name = "key#" + hashlib.sha256(f"{model['model']} {key}".encode()).hexdigest()
        if key:
            kept = {"user": user, "generation": name, "made": item["generation"]}
            gone = "attribute_not_exists(#generation) OR #expires < :now"
            parts.append(
                self.generations.put(kept | {"expires": int(now) + KEY_SECONDS}, gone, {"now": int(now)})
            )
        failed = write(self.client, *parts)
        if not failed:
            return item
        if 0 in failed:
            raise NotReadyError(self.model(user, model["model"])["status"])
        made = self.generation(user, (self.generations.get(user=user, generation=name) or {}).get("made", ""))
        return self._again(made, item, now)

    def _again(self, made: GenerationRow, asked: GenerationRow, now: float) -> GenerationRow:
        """Return the generation of a repeated idempotency key: unchanged if DONE, set to RUNNING if failed.

        Raises `KeyReusedError`, and `StillRunningError` if the first request is in flight.
        """
        if any(made[field] != asked[field] for field in ("model", "prompt", "count")):
            raise KeyReusedError
        if made["status"] == DONE:
            return made
        if shown_status(made, now) == RUNNING:
            raise StillRunningError
        place = {"user": made["user"], "generation": made["generation"]}
        seen = {"status": made["status"], "updated": made["updated"]}
        again: GenerationRow = {**made, "status": RUNNING, "updated": iso(now)}
        change = {"status": again["status"], "updated": again["updated"]}
        condition = "#status = :status AND #updated = :updated"
        if write(self.client, self.generations.update(place, change, condition, seen)):
            raise StillRunningError
        return again

    def end(self, generation: GenerationRow, status: str, now: float) -> bool:
        place = {"user": generation["user"], "generation": generation["generation"]}
        change = {"status": status, "updated": iso(now)}
        return not write(
            self.client,
            self._still_ready(generation["user"], generation["model"]),
            self.generations.update(place, change, "attribute_exists(#generation)"),
        )

    def _still_ready(self, user: str, model: str) -> Part:
        return self.models.check({"user": user, "model": model}, "#status = :ready", {"ready": Status.READY})

    # After a deletion

    def forget(self, user: str, model: str) -> None:
        for item in self.generations_of(user, model, None, limit=100_000):
            place = {"user": user, "generation": item["generation"]}
            write(self.client, self.generations.delete(place, "attribute_exists(#generation)"))
        gone = "#status = :deleted"
        write(
            self.client,
            self.models.delete({"user": user, "model": model}, gone, {"deleted": Status.DELETED}),
        )

    def forget_request(self, request: str) -> None:
        gone = {"deleted": Status.DELETED}
        write(self.client, self.requests.delete({"request": request}, "#status = :deleted", gone))
