"""Create the tasks of a run from the responses of the pre-annotation function, then open it for labelers.

A step of the state machine `Label`. The state machine repeats the step with the `next` and `tasks` of the
last response until `loaded` is true. If the pre-annotation function failed or the input is invalid, the
response has only `problem`, the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from data_centric.aws import environment
from data_centric.aws.functions import call_each
from data_centric.aws.intake import read
from data_centric.aws.observe import logger
from data_centric.core import hooks, workflow
from data_centric.core.hooks import HookError
from data_centric.core.intake import InputError
from data_centric.core.workflow import RunConflictError

AT_ONCE = 100
"""Number of lines between two checks of the remaining time."""
SPARE_MILLISECONDS = 90_000
"""A call ends when less time than this remains. `AT_ONCE` lines must take less."""


@logger.inject_lambda_context
def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    try:
        return load(event, context)
    except (InputError, HookError, RunConflictError) as error:
        logger.warning("could not load the run: %s", error)
        return {"problem": str(error)}


def load(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    _, desk = environment.row_and_desk(event["input"]["name"])
    found = read(event["input"], desk.run)
    row = workflow.begin(desk, found.entries, found.gold_entries, found.truths)
    entries = [*found.entries, *found.gold_entries]
    start, made = event["next"], event["tasks"]
    if row.status != "loading":
        return {"loaded": True, "next": len(entries), "tasks": row.items}
    places, function = environment.objects().places, environment.setting("PRE_ANNOTATION_ARN")
    while start < len(entries):
        if context.get_remaining_time_in_millis() < SPARE_MILLISECONDS:
            return {"loaded": False, "next": start, "tasks": made}
        some = entries[start : start + AT_ONCE]
        requests = [hooks.pre_request(event["execution"], entry) for entry in some]
        responses = call_each(environment.client("lambda"), function, requests)
        new = workflow.tasks_of(found.run, some, found.truths)
        shown = [
            hooks.prepared(task, entry, response, found.run, places)
            for task, entry, response in zip(new, some, responses, strict=True)
        ]
        tasks = [task for task in shown if task]
        workflow.add_tasks(desk, tasks)
        start, made = start + len(some), made + sum(not task.gold for task in tasks)
    workflow.open_run(desk, made)
    return {"loaded": True, "next": start, "tasks": made}
