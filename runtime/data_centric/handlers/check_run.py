"""Check the input of a labeling run, estimate its cost, and create its row.

The first step of the state machine `Label`. For an invalid input the response has `problem`, the reason.
Otherwise it has `name`, `items`, `cost` and `estimate_only`. If `estimate_only` is true, nothing was written.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from data_centric.aws import environment
from data_centric.aws.intake import corrected, read
from data_centric.aws.observe import logger
from data_centric.core import workflow
from data_centric.core.runs import Cost, cost
from data_centric.core.workflow import Desk, RunConflictError


@logger.inject_lambda_context
def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    try:
        found = read(event["input"])
        corrected(found, {})  # raises if an item is absent from the manifest to correct
        least, most = cost(found.run, len(found.entries), environment.defaults().rates)
        desk = Desk(environment.tasks_table(), found.run, time.time)
        if not found.estimate_only:
            workflow.begin(desk, found.entries, found.gold_entries, found.truths)
    except (ValueError, RunConflictError) as error:
        logger.warning("invalid input: %s", error)
        return {"problem": str(error)}
    shown = {"least": _shown(least), "most": _shown(most)}
    logger.info("checked", extra={"run": found.run.name, "cost": shown})
    return {
        "name": found.run.name,
        "items": len(found.entries),
        "cost": shown,
        "estimate_only": found.estimate_only,
    }


def _shown(found: Cost) -> dict[str, Any]:
    return {**asdict(found), "total": found.total}
