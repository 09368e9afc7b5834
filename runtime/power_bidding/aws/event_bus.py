"""EventBridge: the events of this architecture, on the account's default bus."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

SOURCE = "groundplan.power_bidding"


class EventsClient(Protocol):
    """What is used of boto3's client."""

    def put_events(self, *, Entries: list[dict[str, str]]) -> dict[str, Any]: ...


class EventBus:
    def __init__(self, client: EventsClient) -> None:
        self.client = client

    def emit(self, kind: str, detail: Mapping[str, Any]) -> None:
        """Put one event. Raises `RuntimeError` where the bus refuses it."""
        answer = self.client.put_events(
            Entries=[{"Source": SOURCE, "DetailType": kind, "Detail": json.dumps(detail, sort_keys=True)}]
        )
        if answer["FailedEntryCount"]:
            raise RuntimeError(f"the event {kind!r} was refused: {answer['Entries'][0].get('ErrorCode')}")
