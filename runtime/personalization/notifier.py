"""Lambda: tells of models that are READY or have FAILED. The event is the stream of `requests`."""

from __future__ import annotations

import json
import os
from typing import Any

from personalization import aws
from personalization.model import Status
from personalization.observe import logger, metrics
from personalization.streams import each_new_status
from personalization.tables import Item, write

TOLD = (Status.READY, Status.FAILED)


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> None:
    each_new_status(event, notify)


def notify(item: Item) -> None:
    """Publish what became of this row of `requests`, once; twice only if killed between the two writes."""
    if item["status"] not in TOLD:
        return
    table = aws.table("requests")
    row = table.get(request=item["request"])
    if not row or row.get("notified") == item["attempt"] or row["status"] == Status.DELETED:
        return
    message = {name: item[name] for name in ("user", "model", "status", "reason", "updated")}
    aws.client("sns").publish(
        TopicArn=os.environ["TOPIC_ARN"],
        Subject=f"Your model is {item['status']}",
        Message=json.dumps(message),
        MessageAttributes={
            name: {"DataType": "String", "StringValue": str(item[name])} for name in ("user", "status")
        },
    )
    logger.info("told of %s", item["request"])
    same = "#status = :status AND #attempt = :attempt"
    change = {"notified": item["attempt"]}
    given = {"status": item["status"], "attempt": item["attempt"]}
    write(table.client, table.update({"request": item["request"]}, change, same, given))
