"""Outstanding work for requests that have ended, in DynamoDB, as `ports.FollowUps`."""

from __future__ import annotations

from dataclasses import dataclass

from personalization.aws.store import request_of
from personalization.aws.tables import Item, Table, write
from personalization.core.model import Request, Status
from personalization.core.times import iso

AT_ONCE = 100
"""Maximum number of rows in a query. The sweeper's next invocation processes further rows."""
NOT_NOTIFIED = "attribute_not_exists(#notified) OR #notified <> #attempt"
NOT_PURGED = "attribute_not_exists(#purged)"


@dataclass(frozen=True)
class DynamoFollowUps:
    requests: Table

    def awaits_notification(self, request: Request) -> bool:
        row = self.requests.get(request=request.request)
        return bool(row) and row.get("notified") != request.attempt and row["status"] != Status.DELETED

    def mark_notified(self, request: Request) -> None:
        same = "#status = :status AND #attempt = :attempt"
        given = {"status": request.status, "attempt": request.attempt}
        self._mark(request, {"notified": request.attempt}, same, given)

    def not_notified(self, status: Status, between: tuple[float, float], ahead: float) -> list[Request]:
        after, before = between
        return self._query(
            status, "BETWEEN :after AND :before", {"after": iso(after), "before": iso(before)}, NOT_NOTIFIED
        ) + self._query(status, "> :ahead", {"ahead": iso(ahead)}, NOT_NOTIFIED)

    def mark_purged(self, request: Request) -> None:
        deleted = {"deleted": Status.DELETED}
        self._mark(request, {"purged": True}, "#status = :deleted", deleted)

    def not_purged(self, before: float, again: float, ahead: float) -> list[Request]:
        return self._query(
            Status.DELETED,
            "< :before",
            {"before": iso(before), "again": iso(again)},
            f"{NOT_PURGED} OR #updated < :again",
        ) + self._query(Status.DELETED, "> :ahead", {"ahead": iso(ahead)}, NOT_PURGED)

    def _query(self, status: Status, updated: str, values: Item, filter: str) -> list[Request]:
        condition = f"#status = :status AND #updated {updated}"
        rows = self.requests.query(
            condition, values | {"status": status}, index="queue", filter=filter, limit=AT_ONCE
        )
        return [request_of(row) for row in rows]

    def _mark(self, request: Request, change: Item, condition: str, values: Item) -> None:
        key = {"request": request.request}
        write(self.requests.client, self.requests.update(key, change, condition, values))
