"""Whether an Amazon States Language definition is sound, asked at synthesis: AWS tells only later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonata.jexception import JException
from jsonata.jsonata import Jsonata

TYPES = {"Task", "Pass", "Choice", "Wait", "Succeed", "Fail"}
ENDS = {"Succeed", "Fail"}


def problems(definition: dict[str, Any]) -> list[str]:
    """One sentence for each fault of a JSONata state machine without Map and Parallel; empty when sound.

    Looked for: names that lead nowhere, states that nothing leads to, states without an end, tasks without a
    timeout or a way out of an error, expressions that are not JSONata.
    """
    states: dict[str, dict[str, Any]] = definition["States"]
    found = [] if "TimeoutSeconds" in definition else ["the state machine has no TimeoutSeconds"]
    targets = {definition["StartAt"]}
    for name, state in states.items():
        kind = state["Type"]
        nexts = list(_nexts(state))
        targets.update(nexts)
        found += [f"{name} leads to {target}, which is no state" for target in nexts if target not in states]
        if kind not in TYPES:
            found.append(f"{name} is a {kind}, which is none of {', '.join(sorted(TYPES))}")
        if kind == "Choice":
            if "Default" not in state:
                found.append(f"{name} has no Default")
        elif kind not in ENDS and ("Next" in state) == bool(state.get("End")):
            found.append(f"{name} needs either Next or End")
        if kind == "Task":
            found += [
                f"{name} has no {need}"
                for need in ("Resource", "TimeoutSeconds", "Catch")
                if need not in state
            ]
        found += [f"{name}: {problem}" for problem in _expressions(state)]
    if definition["StartAt"] not in states:
        found.append(f"StartAt is {definition['StartAt']}, which is no state")
    return found + [f"nothing leads to {name}" for name in states if name not in targets]


def _nexts(state: dict[str, Any]) -> Iterator[str]:
    for holder in (state, *state.get("Choices", []), *state.get("Catch", [])):
        if "Next" in holder:
            yield holder["Next"]
    if "Default" in state:
        yield state["Default"]


def _expressions(value: Any) -> Iterator[str]:
    """What is wrong with the JSONata inside `value`."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _expressions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _expressions(item)
    elif isinstance(value, str) and value.startswith("{%"):
        if not value.endswith("%}"):
            yield f"an expression does not end in %}}: {value}"
            return
        try:
            Jsonata(value[2:-2].strip())
        except JException as error:
            yield f"{error} in {value}"
