"""Lambda: removes what belonged to a deleted model. The event is the stream of `requests`."""

from __future__ import annotations

from typing import Any

from personalization import aws
from personalization.model import Status
from personalization.observe import logger, metrics
from personalization.purge import purge
from personalization.store import request_of
from personalization.streams import each_new_status
from personalization.tables import Item, write


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> None:
    each_new_status(event, forget)


def forget(item: Item) -> None:
    """Purge the model of this row of `requests`, if it is DELETED, and mark the row when nothing is left."""
    if item["status"] != Status.DELETED:
        return
    if purge(aws.backend(), aws.accounts(), request_of(item)):
        table, deleted = aws.table("requests"), {"deleted": Status.DELETED}
        key = {"request": item["request"]}
        write(table.client, table.update(key, {"purged": True}, "#status = :deleted", deleted))
        logger.info("nothing is left of %s", item["request"])
