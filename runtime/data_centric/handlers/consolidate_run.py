"""Consolidate the answers of a closed run by its post-annotation function, and write the results.

A step of the state machine `Label`. Repeating it writes the same results. The response has `problem`, the
reason, where the post-annotation function failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from data_centric.aws import environment
from data_centric.aws.functions import call
from data_centric.aws.intake import read
from data_centric.aws.observe import logger
from data_centric.core import hooks, workflow
from data_centric.core.hooks import HookError
from data_centric.core.intake import InputError
from data_centric.core.manifests import Label
from data_centric.core.places import LABELED, REPORT, UNLABELED, result
from data_centric.core.results import Results, results
from data_centric.core.tasks import RunRow
from data_centric.core.workflow import RunConflictError

MOST_DISPUTED = 100
"""Items in the report's list of disputed ones."""
LINES, OBJECT = "application/jsonlines", "application/json"


class NotClosedError(Exception):
    """The run is still open: labelers may still answer."""


@logger.inject_lambda_context
def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    try:
        return consolidate(event)
    except (HookError, InputError, RunConflictError) as error:
        logger.warning("not consolidated: %s", error)
        return {"problem": str(error)}


def consolidate(event: Mapping[str, Any]) -> dict[str, Any]:
    row, desk = environment.row_and_desk(event["input"]["name"])
    if row.status != "closed":
        raise NotClosedError(f"the run {row.run} is {row.status}")
    objects, found = environment.objects(), read(event["input"], desk.run)
    workflow.begin(desk, found.entries, found.gold_entries, found.truths)
    tasks = [*desk.table.tasks(row.run)]
    created = datetime.fromtimestamp(row.closed, UTC)
    labels = dict[str, Label]()
    for number, payload in enumerate(hooks.payloads(desk.run, tasks)):
        key = result(row.run, f"answers/{number}.json")
        objects.write(key, json.dumps(payload).encode(), OBJECT)
        request = hooks.post_request(event["execution"], desk.run, objects.places.url(key))
        response = call(environment.client("lambda"), environment.setting("POST_ANNOTATION_ARN"), request)
        labels |= hooks.labels(desk.run, found.entries, response, created)
    made = results(desk.run, found.entries, tasks, labels, MOST_DISPUTED)
    complete = all(task.complete for task in tasks if not task.gold)
    report = _report(row, made, len(found.entries), complete, created)
    # The report comes last: where it is, the manifests are
    for name, body, kind in (
        (LABELED, made.labeled, LINES),
        (UNLABELED, made.unlabeled, LINES),
        (REPORT, json.dumps(report, indent=1).encode(), OBJECT),
    ):
        objects.write(result(row.run, name), body, kind)
    logger.info("consolidated", extra={"run": row.run, "version": made.version})
    places = {
        name: objects.places.url(result(row.run, file))
        for name, file in (("manifest", LABELED), ("unlabeled_manifest", UNLABELED), ("report", REPORT))
    }
    shown = ("version", "complete", "items", "labeled", "unlabeled", "extra_labels")
    return {name: report[name] for name in shown} | places


def _report(row: RunRow, found: Results, items: int, complete: bool, created: datetime) -> dict[str, Any]:
    return {
        "run": row.run,
        "version": found.version,
        "created": created.isoformat(),
        "complete": complete,
        "items": items,
        "labeled": len(found.labels),
        "unlabeled": items - len(found.labels),
        "extra_labels": row.extra,
        "divergence": asdict(found.report),
    }
