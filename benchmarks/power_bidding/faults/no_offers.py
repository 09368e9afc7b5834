"""Counts explicit no-offers, and the no-offers in the metric of the alarm."""

from __future__ import annotations

import json
import time
from typing import Any

from scenarios import aws
from scenarios.power_bidding.desk import Desk

METRIC = "NoOfferHours"
METRIC_SECONDS = 30
"""Maximum delay of a log line, in seconds."""


class NoOffers:
    """Counts of no-offers: in the table of offers, and in the log with the alarm's metric."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rows = sum(row.get("status") == "no_offer" for row in desk.rows())
        self._counted = self._count()

    def unalarmed(self, before: NoOffers) -> int:
        """Wait for the log. Return the number of no-offers since `before` that are missing in the metric."""
        said = self._rows - before._rows
        until = time.monotonic() + METRIC_SECONDS
        while self._counted - before._counted < said and time.monotonic() < until:
            time.sleep(1)
            self._counted = self._count()
        return max(0, said - (self._counted - before._counted))

    def _count(self) -> int:
        name = self._desk.outputs["FallBackFunctionName"]
        found = aws.client("lambda").get_function_configuration(FunctionName=name)
        group = found.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{name}")
        pages = aws.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return sum(counted(event["message"]) for page in pages for event in page["events"])


def counted(line: str) -> int:
    """Return the number of no-offers in a log line in CloudWatch's embedded metric format."""
    try:
        found: Any = json.loads(line)
        return round(sum(found[METRIC])) if "_aws" in found else 0
    except (ValueError, KeyError, TypeError):
        return 0
