"""Request more labels for items on which labelers disagree; close a run that is complete or timed out.

A step of the state machine `Label`, repeated after pauses. It emits metrics of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from data_centric.aws import environment
from data_centric.aws.observe import count, logger, metrics
from data_centric.core.watch import watch


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    _, desk = environment.row_and_desk(event["name"])
    found = watch(desk, environment.defaults().most_hours)
    count("OpenTasks", found.open)
    count("OldestOpenSeconds", found.oldest)
    count("BlockedLabelers", found.blocked)
    count("ExtraLabels", found.asked)
    if found.disputed is not None:
        count("DisputedItems", found.disputed)
    count("IncompleteRuns", float(found.closed and not found.complete))
    logger.info("watched", extra={"run": event["name"], "state": asdict(found)})
    return asdict(found)
