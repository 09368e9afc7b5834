"""Responses to CloudFormation's requests for custom resources, shared by the functions of this library."""

from __future__ import annotations

import json
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger()
log.setLevel(logging.INFO)

SPARE_SECONDS = 30
"""Seconds reserved at the end of a function's time for its last calls and for the response, with retries."""

REASON_BYTES = 1000
"""Maximum length of a failure reason. CloudFormation limits the whole response to 4,096 bytes."""

UNNAMED = "UNNAMED"
"""Physical id of a resource whose creation failed before it got one. Its deletion does nothing."""

Identify = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Request:
    """A request of CloudFormation.

    `physical_id` is that of the resource to create, update or delete. `deadline` is the time to give up, on
    the monotonic clock.
    """

    deletes: bool
    properties: Mapping[str, Any]
    physical_id: str
    deadline: float


def respond(
    event: Mapping[str, Any], context: Any, *, identify: Identify, work: Callable[[Request], None]
) -> None:
    """Call `work` and respond, even if `work` fails: without a response, CloudFormation waits for an hour.

    `identify` returns the physical id for the resource's properties. If the id is new in an update,
    CloudFormation then requests the deletion of the old resource. Raises `OSError` if CloudFormation does not
    accept the response.
    """
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS
    physical_id = event.get("PhysicalResourceId") or UNNAMED
    deletes = event["RequestType"] == "Delete"
    reason = ""
    try:
        properties = event["ResourceProperties"]
        if not deletes:
            physical_id = identify(properties)
        if physical_id != UNNAMED:
            work(Request(deletes, properties, physical_id, deadline))
    except Exception as error:  # CloudFormation needs a response for any error
        log.exception("%s failed", event["RequestType"])
        reason = f"{type(error).__name__}: {error}"
    _answer(event, physical_id, reason)


def _answer(event: Mapping[str, Any], physical_id: str, reason: str) -> None:
    """Send the response, with retries."""
    answer = {
        "Status": "FAILED" if reason else "SUCCESS",
        "Reason": reason.encode()[:REASON_BYTES].decode(errors="ignore"),
        "PhysicalResourceId": physical_id,
        **{key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")},
    }
    request = urllib.request.Request(  # noqa: S310 - the address is CloudFormation's own
        event["ResponseURL"],
        data=json.dumps(answer, ensure_ascii=False).encode(),
        method="PUT",
        headers={"Content-Type": ""},
    )
    for pause in (1, 2, None):
        try:
            urllib.request.urlopen(request, timeout=4).close()  # noqa: S310
            return
        except OSError:
            if pause is None:
                raise
            log.exception("CloudFormation did not take the answer")
            time.sleep(pause)
