"""Consolidate the answers of a closed run with the post-annotation function, and write the results.

A step of the state machine `Label`. A repeated call writes the same results. If the post-annotation function
failed or the input is invalid, the response has only `problem`, the reason.
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
from data_centric.aws.intake import corrected, read
from data_centric.aws.observe import logger
from data_centric.core import hooks, manifests, predictions, workflow
from data_centric.core.corrections import Corrected
from data_centric.core.hooks import HookError
from data_centric.core.intake import InputError, Intake
from data_centric.core.manifests import Label
from data_centric.core.places import CORRECTED, ERRORS, LABELED, REPORT, UNLABELED, result
from data_centric.core.results import Results, results
from data_centric.core.tasks import RunRow
from data_centric.core.workflow import RunConflictError

MOST_DISPUTED = 100
"""Maximum number of disputed items in the report."""
SHOWN = ("version", "complete", "items", "labeled", "unlabeled", "extra_labels")
"""Fields of the report that are also in the response."""
LINES, OBJECT = "application/jsonlines", "application/json"


class NotClosedError(Exception):
    """The run is not closed: labelers may still answer."""


@logger.inject_lambda_context
def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    try:
        return consolidate(event)
    except (HookError, InputError, RunConflictError) as error:
        logger.warning("could not consolidate the run: %s", error)
        return {"problem": str(error)}


def consolidate(event: Mapping[str, Any]) -> dict[str, Any]:
    row, desk = environment.row_and_desk(event["input"]["name"])
    if row.status != "closed":
        raise NotClosedError(f"the run {row.run} must be closed, got {row.status}")
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
    whole = corrected(found, labels)
    report = _report(row, made, len(found.entries), complete, created) | _parts(found, labels, whole)
    files = {"manifest": (LABELED, made.labeled), "unlabeled_manifest": (UNLABELED, made.unlabeled)}
    shown = {name: report[name] for name in SHOWN}
    if found.selection:
        wrong = predictions.errors(found.selection, labels)
        files["errors_manifest"] = (ERRORS, manifests.labeled(found.entries, desk.run.attribute, wrong))
    if whole:
        files["corrected_manifest"] = (CORRECTED, whole.manifest)
        shown["corrected_version"] = whole.version
    for name, body in files.values():
        objects.write(result(row.run, name), body, LINES)
    # The report is written last: if it exists, the manifests exist
    objects.write(result(row.run, REPORT), json.dumps(report, indent=1).encode(), OBJECT)
    logger.info("the run is consolidated", extra={"run": row.run, "version": made.version})
    names = {name: file for name, (file, _) in files.items()} | {"report": REPORT}
    return shown | {name: objects.places.url(result(row.run, file)) for name, file in names.items()}


def _parts(found: Intake, labels: Mapping[str, Label], whole: Corrected | None) -> dict[str, Any]:
    """Return the report's parts on predictions and corrections, if the input has them."""
    parts = dict[str, Any]()
    if found.selection:
        parts["predictions"] = asdict(predictions.report(found.selection, labels))
    if whole:
        numbers = ("version", "changed", "confirmed", "unanswered")
        parts["corrections"] = {name: getattr(whole, name) for name in numbers}
    return parts


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
