"""Validation of Amazon States Language definitions at synthesis. AWS validates them only at deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonata.jexception import JException
from jsonata.jsonata import Jsonata

TYPES = {"Task", "Pass", "Choice", "Wait", "Succeed", "Fail", "Parallel", "Map"}
ENDS = {"Succeed", "Fail"}
LONGEST_NAME = 80
"""Maximum number of characters in a state's name."""
_CALLS = {"Task", "Parallel", "Map"}
_builtin: Any = Jsonata.static_frame
_FUNCTIONS = {"partition", "range", "hash", "random", "uuid", "parse"}
"""Functions that Step Functions adds to JSONata."""


def problems(definition: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each error in a JSONata state machine; an empty list if it is valid.

    Errors are, among others: transitions to unknown states, duplicate names, unreachable states, states
    without a next state or an end, tasks without a timeout or an error handler, callbacks without a
    heartbeat, invalid JSONata expressions, variables that no state assigns, and variables of the machine that
    a branch assigns again.
    """
    found = [] if "TimeoutSeconds" in definition else ["the state machine has no TimeoutSeconds"]
    names = [name for flow in _flows(definition) for name in flow["States"]]
    found += [f"there are two states with the name {name}" for name in _twice(names)]
    found += [
        f"{name[:20]}... has more than {LONGEST_NAME} characters"
        for name in names
        if len(name) > LONGEST_NAME
    ]
    return found + list(_flow(definition, frozenset(), outermost=True))


def _flow(flow: Mapping[str, Any], around: frozenset[str], *, outermost: bool) -> Iterator[str]:
    """Yield the errors in a machine or branch.

    :param around: variables of the enclosing machine and branches
    """
    states: Mapping[str, dict[str, Any]] = flow["States"]
    targets = {flow["StartAt"]}
    own = {
        name for state in states.values() for holder in _holders(state) for name in holder.get("Assign", {})
    }
    yield from (f"${name} is a variable of the machine around this branch" for name in sorted(own & around))
    if flow["StartAt"] not in states:
        yield f"StartAt is {flow['StartAt']}, which is no state"
    for name, state in states.items():
        following = list(nexts(state))
        targets.update(following)
        yield from (
            f"{name} leads to {target}, which is no state" for target in following if target not in states
        )
        yield from (f"{name} {problem}" for problem in _state(state, outermost))
        yield from (f"{name}: {problem}" for problem in _expressions(state, own | around))
        for inner in _inner(state):
            distributed = inner.get("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED"
            yield from _flow(inner, frozenset() if distributed else own | around, outermost=False)
    yield from (f"nothing leads to {name}" for name in states if name not in targets)


def _state(state: Mapping[str, Any], outermost: bool) -> Iterator[str]:
    """Yield the errors in the fields of one state."""
    kind = state["Type"]
    if kind not in TYPES:
        yield f"is a {kind}, which is none of {', '.join(sorted(TYPES))}"
    if kind == "Choice":
        if "Default" not in state:
            yield "has no Default"
    elif kind not in ENDS and ("Next" in state) == bool(state.get("End")):
        yield "needs either Next or End"
    if kind in _CALLS:
        needed = ["Catch" if outermost else "Retry"]
        if kind == "Task":
            needed = ["Resource", "TimeoutSeconds", *needed]
            if state.get("Resource", "").endswith(".waitForTaskToken"):
                needed.append("HeartbeatSeconds")
        elif kind == "Map":
            needed = ["ItemProcessor", "MaxConcurrency", *needed]
        else:
            needed = ["Branches", *needed]
        yield from (f"has no {need}" for need in needed if need not in state)
        heartbeat, timeout = state.get("HeartbeatSeconds", 0), state.get("TimeoutSeconds", 0)
        if isinstance(heartbeat, int) and heartbeat < 1 and "HeartbeatSeconds" in state:
            yield f"has a heartbeat of {heartbeat} s, which is less than 1 s"
        if isinstance(heartbeat, int) and isinstance(timeout, int) and heartbeat >= timeout > 0:
            yield f"has a heartbeat of {heartbeat} s, which is not less than its timeout of {timeout} s"


def _flows(flow: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a machine or branch and all branches in it."""
    yield flow
    for state in flow["States"].values():
        for inner in _inner(state):
            yield from _flows(inner)


def _inner(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from state.get("Branches", [])
    if "ItemProcessor" in state:
        yield state["ItemProcessor"]


def _twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _holders(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the parts of a state that may assign variables and name a next state: the state itself, its
    rules and its catchers."""
    return [state, *state.get("Choices", []), *state.get("Catch", [])]


def nexts(state: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the possible next states."""
    for holder in _holders(state):
        if "Next" in holder:
            yield holder["Next"]
    if "Default" in state:
        yield state["Default"]


def _expressions(value: Any, variables: frozenset[str]) -> Iterator[str]:
    """Yield the errors in the JSONata of `value`, except in its branches."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("Branches", "ItemProcessor"):
                yield from _expressions(item, variables)
    elif isinstance(value, list):
        for item in value:
            yield from _expressions(item, variables)
    elif isinstance(value, str) and value.startswith("{%"):
        if not value.endswith("%}"):
            yield f"an expression does not end in %}}: {value}"
            return
        try:
            expression = Jsonata(value[2:-2].strip())
        except JException as error:
            yield f"{error} in {value}"
            return
        used, bound = _variables(expression)
        known = variables | bound | _FUNCTIONS | {"states", "", "$"} | set(_builtin.bindings)
        yield from (f"no state assigns ${name}, in {value}" for name in sorted(used - known))


def _variables(expression: Jsonata) -> tuple[set[str], set[str]]:
    """Return the variables that an expression uses, and the variables that it binds."""
    used: set[str] = set()
    bound: set[str] = set()
    seen: set[int] = set()
    nodes: list[Any] = [expression.ast]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list | tuple):
            nodes.extend(node)
        elif hasattr(node, "type") and hasattr(node, "lbp") and id(node) not in seen:
            seen.add(id(node))
            if node.type == "variable":
                used.add(str(node.value))
            elif node.type == "bind":
                bound.add(str(node.lhs.value))
            elif node.type == "lambda":
                bound.update(str(argument.value) for argument in node.arguments)
            nodes.extend(value for name, value in vars(node).items() if name != "_outer_instance")
    return used, bound
