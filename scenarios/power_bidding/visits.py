"""State visits of an execution."""

from __future__ import annotations

from dataclasses import dataclass

from scenarios import aws


@dataclass(frozen=True)
class Visit:
    """A visit to a state. Times are in seconds since 1970-01-01."""

    state: str
    begin: float
    end: float


def visits(execution: str) -> list[Visit]:
    """Return the state visits of a completed execution, sorted by start.

    Visits to Choice, Pass and Succeed states are left out. Names of states in parallel branches must differ.
    """
    pages = (
        aws.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=execution)
    )
    entered: dict[str, float] = {}
    found: list[Visit] = []
    for event in (event for page in pages for event in page["events"]):
        kind, moment = event["type"], event["timestamp"].timestamp()
        if kind.endswith("StateEntered") and not kind.startswith(("Choice", "Pass", "Succeed")):
            entered[event["stateEnteredEventDetails"]["name"]] = moment
        elif kind.endswith("StateExited"):
            name = event["stateExitedEventDetails"]["name"]
            if name in entered:
                found.append(Visit(name, entered.pop(name), moment))
    return sorted(found, key=lambda visit: visit.begin)
