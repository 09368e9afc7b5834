"""Static validation of Amazon States Language, as CreateStateMachine does it.

The fields of each state are from https://states-language.net/spec.html and the Step Functions developer
guide. The diagnostic codes are from ValidateStateMachineDefinitionDiagnostic in the Step Functions API
reference, which says that the wording, order and number of diagnostics may change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

JSONPATH, JSONATA = "JSONPath", "JSONata"
LONGEST_NAME = 80

_IO = frozenset({"InputPath", "OutputPath"})
_NEXT = frozenset({"Next", "End"})
_FAILS = frozenset({"Retry", "Catch"})
_RESULT = frozenset({"Parameters", "Arguments", "ResultSelector", "ResultPath"})
_GIVES = frozenset({"Output", "Assign"})
_EVERY = frozenset({"Type", "Comment", "QueryLanguage"})
FIELDS: Mapping[str, frozenset[str]] = {
    "Pass": _EVERY | _IO | _NEXT | _GIVES | {"Parameters", "Result", "ResultPath"},
    "Task": _EVERY | _IO | _NEXT | _GIVES | _RESULT | _FAILS
    | {"Resource", "Credentials", "TimeoutSeconds", "TimeoutSecondsPath", "HeartbeatSeconds"}
    | {"HeartbeatSecondsPath"},
    "Choice": _EVERY | _IO | _GIVES | {"Choices", "Default"},
    "Wait": _EVERY | _IO | _NEXT | _GIVES | {"Seconds", "SecondsPath", "Timestamp", "TimestampPath"},
    "Succeed": _EVERY | _IO | {"Output"},
    "Fail": _EVERY | {"Error", "ErrorPath", "Cause", "CausePath"},
    "Parallel": _EVERY | _IO | _NEXT | _GIVES | _RESULT | _FAILS | {"Branches"},
    "Map": _EVERY | _IO | _NEXT | _GIVES | _FAILS
    | {"Parameters", "ResultSelector", "ResultPath", "ItemProcessor", "Iterator", "ItemReader", "Items"}
    | {"ItemsPath", "ItemSelector", "ItemBatcher", "MaxConcurrency", "MaxConcurrencyPath", "Label"}
    | {"ToleratedFailurePercentage", "ToleratedFailurePercentagePath", "ToleratedFailureCount"}
    | {"ToleratedFailureCountPath", "ResultWriter"},
}  # fmt: skip
"""Fields of a state by its type, in both query languages."""
_ONLY = {
    JSONPATH: frozenset(
        {"InputPath", "OutputPath", "Parameters", "ResultSelector", "ResultPath", "Result", "ItemsPath"}
        | {"SecondsPath", "TimestampPath", "TimeoutSecondsPath", "HeartbeatSecondsPath", "ErrorPath"}
        | {"CausePath", "MaxConcurrencyPath", "ToleratedFailurePercentagePath", "ToleratedFailureCountPath"}
    ),
    JSONATA: frozenset({"Arguments", "Output", "Items"}),
}
"""Fields that only one query language has."""
_MACHINE = frozenset({"Comment", "StartAt", "States", "Version", "TimeoutSeconds", "QueryLanguage"})
_BRANCH = frozenset({"Comment", "StartAt", "States"})
_RETRY = frozenset(
    {"Comment", "ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "MaxDelaySeconds"}
    | {"JitterStrategy"}
)
_CATCH = frozenset({"Comment", "ErrorEquals", "Next", "ResultPath", "Output", "Assign"})
_RULE = re.compile(
    r"(Boolean|Numeric|String|Timestamp)Equals(Path)?|(Numeric|String|Timestamp)(Greater|Less)Than(Equals)?"
    r"(Path)?|StringMatches|Is(Boolean|Null|Numeric|Present|String|Timestamp)"
)
_EXCLUSIVE = (
    *(("TimeoutSeconds", "TimeoutSecondsPath"), ("HeartbeatSeconds", "HeartbeatSecondsPath")),
    *(("Error", "ErrorPath"), ("Cause", "CausePath"), ("MaxConcurrency", "MaxConcurrencyPath")),
    *(("ItemProcessor", "Iterator"), ("ToleratedFailureCount", "ToleratedFailureCountPath")),
    ("ToleratedFailurePercentage", "ToleratedFailurePercentagePath"),
)


@dataclass(frozen=True)
class Diagnostic:
    """One reason to refuse a definition. `location` is empty for the whole definition."""

    code: str
    message: str
    location: str = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" at {self.location}" if self.location else "")


def diagnose(definition: str) -> list[Diagnostic]:
    """Return the reasons to refuse a definition, given as JSON; empty if it is valid."""
    if not definition:
        return [Diagnostic("MISSING_DESCRIPTION", "The definition is empty")]
    try:
        machine = json.loads(definition, object_pairs_hook=_Object)
    except ValueError as error:
        return [Diagnostic("INVALID_JSON_DESCRIPTION", str(error))]
    return list(_Check().machine(machine))


class _Object(dict):
    """A JSON object that records which of its member names occurred repeatedly."""

    def __init__(self, pairs: list[tuple[str, Any]]):
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.repeated = sorted({name for name in names if names.count(name) > 1})


def _schema(message: str, location: str) -> Diagnostic:
    return Diagnostic("SCHEMA_VALIDATION_FAILED", message, location or "/")


def _language(holder: dict, inherited: str) -> str:
    given = holder.get("QueryLanguage", inherited)
    return given if given in (JSONPATH, JSONATA) else inherited


def _expression(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("{%") and value.endswith("%}")


class _Check:
    """The check of one definition. Names of states must be unique in the whole definition."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def machine(self, machine: Any) -> Iterator[Diagnostic]:
        if not isinstance(machine, dict):
            yield _schema("The definition must be an object", "")
            return
        yield from self._language(machine, "", JSONPATH)
        yield from self._fields(machine, _MACHINE, "")
        yield from self._number(machine, "TimeoutSeconds", "", 1, 99_999_999, JSONPATH)
        yield from self._flow(machine, "", _language(machine, JSONPATH))

    def _language(self, holder: dict, at: str, inherited: str) -> Iterator[Diagnostic]:
        given = holder.get("QueryLanguage", inherited)
        if given not in (JSONPATH, JSONATA):
            yield _schema(f"Value must be one of [{JSONPATH}, {JSONATA}]", f"{at}/QueryLanguage")
        elif (given, inherited) == (JSONPATH, JSONATA):
            yield _schema(
                "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine", at
            )

    def _fields(self, holder: dict, allowed: frozenset[str], at: str) -> Iterator[Diagnostic]:
        for name in holder:
            if name not in allowed:
                yield _schema(f"Field '{name}' is not supported", at)

    def _flow(self, flow: dict, at: str, language: str) -> Iterator[Diagnostic]:
        """Check the states and transitions of a machine, a branch or an item processor."""
        states = flow.get("States")
        if not isinstance(states, dict) or not states:
            yield _schema("Field 'States' must be an object with at least one state", at)
            return
        for name in getattr(states, "repeated", ()):
            yield Diagnostic("DUPLICATE_STATE_NAME", f"Duplicate state name: {name}", f"{at}/States/{name}")
        known = True
        for name, state in states.items():
            where = f"{at}/States/{name}"
            if name in self._names:
                yield Diagnostic("DUPLICATE_STATE_NAME", f"Duplicate state name: {name}", where)
            self._names.add(name)
            if not 1 <= len(name) <= LONGEST_NAME:
                length = f"The name of a state must have 1 to {LONGEST_NAME} characters, got {len(name)}"
                yield Diagnostic("INVALID_STATE_NAME", length, where)
            if isinstance(state, dict):
                yield from self._state(state, where, language)
            else:
                known = False
                yield _schema("A state must be an object", where)
        if known:
            yield from self._transitions(flow, states, at)

    def _transitions(self, flow: dict, states: dict, at: str) -> Iterator[Diagnostic]:
        start = flow.get("StartAt")
        if not isinstance(start, str):
            yield _schema("Field 'StartAt' is required", at)
            return
        if start not in states:
            yield Diagnostic("MISSING_TRANSITION_TARGET", f"Missing 'Next' target: {start}", f"{at}/StartAt")
        for name, state in states.items():
            for where, target in _targets(state):
                if isinstance(target, str) and target not in states:
                    said = f"Missing 'Next' target: {target}"
                    yield Diagnostic("MISSING_TRANSITION_TARGET", said, f"{at}/States/{name}{where}")
        if not any(s.get("End") is True or s.get("Type") in ("Succeed", "Fail") for s in states.values()):
            yield Diagnostic("MISSING_END_STATE", "Workflow has no terminal state")
            return
        reached, ahead = set(), [start]
        while ahead:
            name = ahead.pop()
            if name in states and name not in reached:
                reached.add(name)
                ahead += [target for _, target in _targets(states[name]) if isinstance(target, str)]
        for name in states:
            if name not in reached:
                said = f'State "{name}" is not reachable.'
                yield Diagnostic("MISSING_TRANSITION_TARGET", said, f"{at}/States/{name}")

    def _state(self, state: dict, at: str, inherited: str) -> Iterator[Diagnostic]:
        kind = state.get("Type")
        if not isinstance(kind, str) or kind not in FIELDS:
            yield _schema(f"Value must be one of [{', '.join(FIELDS)}], got {kind!r}", f"{at}/Type")
            return
        yield from self._language(state, at, inherited)
        language = _language(state, inherited)
        yield from self._fields(state, FIELDS[kind], at)
        for other in (JSONPATH, JSONATA):
            for name in sorted(state.keys() & _ONLY[other] & FIELDS[kind]) if other != language else ():
                yield _schema(
                    f"The QueryLanguage is set to '{language}', but field '{name}' is only supported for the "
                    f"'{other}' QueryLanguage",
                    at,
                )
        for pair in _EXCLUSIVE:
            if all(name in state for name in pair):
                yield _schema(f"There should only be one of the following fields: [{', '.join(pair)}]", at)
        if FIELDS[kind] >= _NEXT:
            yield from self._end(state, at)
        for name, rules in (("Retry", self._retrier), ("Catch", self._catcher)):
            if name in FIELDS[kind] and name in state:
                yield from self._handlers(state[name], f"{at}/{name}", rules, language)
        yield from getattr(self, f"_{kind.lower()}", lambda *_: ())(state, at, language)

    def _end(self, state: dict, at: str) -> Iterator[Diagnostic]:
        if "Next" in state and "End" in state:
            yield _schema("There should only be one of the following fields: [Next, End]", at)
        elif "Next" not in state and "End" not in state:
            yield _schema("One of the following fields is required: [Next, End]", at)
        elif "Next" in state and not isinstance(state["Next"], str):
            yield _schema("Expected value of type String", f"{at}/Next")
        elif "End" in state and state["End"] is not True:
            yield _schema("Value must be true", f"{at}/End")

    # Types of states

    def _task(self, state: dict, at: str, language: str) -> Iterator[Diagnostic]:
        resource = state.get("Resource")
        if resource is None:
            yield _schema("Field 'Resource' is required", at)
        elif not isinstance(resource, str) or not re.match(r"arn:[\w-]+:[\w-]+:[\w-]*:\d*:.", resource):
            yield Diagnostic("INVALID_RESOURCE", "Value is not a valid resource ARN", f"{at}/Resource")
        for name in ("TimeoutSeconds", "HeartbeatSeconds"):
            yield from self._number(state, name, at, 1, 99_999_999, language)
        limit, beat = state.get("TimeoutSeconds"), state.get("HeartbeatSeconds")
        if isinstance(limit, int) and isinstance(beat, int) and beat >= limit:
            yield _schema("HeartbeatSeconds must be smaller than TimeoutSeconds", at)

    def _choice(self, state: dict, at: str, language: str) -> Iterator[Diagnostic]:
        choices = state.get("Choices")
        if not isinstance(choices, list) or not choices:
            yield _schema("Field 'Choices' must be an array with at least one rule", at)
            return
        for index, rule in enumerate(choices):
            where = f"{at}/Choices[{index}]"
            if not isinstance(rule, dict):
                yield _schema("A choice rule must be an object", where)
                continue
            if not isinstance(rule.get("Next"), str):
                yield _schema("Field 'Next' is required", where)
            if language == JSONATA:
                allowed = frozenset({"Comment", "Condition", "Next", "Assign", "Output"})
                yield from self._fields(rule, allowed, where)
                if not isinstance(rule.get("Condition"), bool) and not _expression(rule.get("Condition")):
                    yield _schema("Field 'Condition' must be a JSONata expression or a boolean", where)
            else:
                yield from self._rule(rule, where, frozenset({"Comment", "Next", "Assign"}))

    def _rule(self, rule: Any, at: str, besides: frozenset[str]) -> Iterator[Diagnostic]:
        """Check a comparison, or comparisons combined with And, Or, Not."""
        if not isinstance(rule, dict):
            yield _schema("A choice rule must be an object", at)
            return
        tests = [name for name in rule if name in ("And", "Or", "Not") or _RULE.fullmatch(name)]
        if len(tests) != 1:
            yield _schema(f"A choice rule must have exactly one comparison, got {len(tests)}", at)
            return
        name, inside = tests[0], rule[tests[0]]
        compound = name in ("And", "Or", "Not")
        yield from self._fields(rule, besides | {name} | (set() if compound else {"Variable"}), at)
        if not compound and not isinstance(rule.get("Variable"), str):
            yield _schema("Field 'Variable' is required", at)
        if name == "Not":
            yield from self._rule(inside, f"{at}/Not", frozenset({"Comment"}))
        elif compound and (not isinstance(inside, list) or not inside):
            yield _schema(f"Field '{name}' must be an array with at least one rule", at)
        elif compound:
            for index, each in enumerate(inside):
                yield from self._rule(each, f"{at}/{name}[{index}]", frozenset({"Comment"}))

    def _wait(self, state: dict, at: str, language: str) -> Iterator[Diagnostic]:
        names = ("Seconds", "Timestamp", "SecondsPath", "TimestampPath")
        if sum(name in state for name in names) != 1:
            yield _schema(f"There should be exactly one of the following fields: [{', '.join(names)}]", at)
        yield from self._number(state, "Seconds", at, 0, 99_999_999, language)

    def _parallel(self, state: dict, at: str, language: str) -> Iterator[Diagnostic]:
        branches = state.get("Branches")
        if not isinstance(branches, list) or not branches:
            yield _schema("Field 'Branches' must be an array with at least one branch", at)
            return
        for index, branch in enumerate(branches):
            yield from self._inside(branch, f"{at}/Branches[{index}]", _BRANCH, language)

    def _map(self, state: dict, at: str, language: str) -> Iterator[Diagnostic]:
        name = next((name for name in ("ItemProcessor", "Iterator") if name in state), None)
        if name is None:
            yield _schema("Field 'ItemProcessor' is required", at)
        else:
            yield from self._inside(state[name], f"{at}/{name}", _BRANCH | {"ProcessorConfig"}, language)
        yield from self._number(state, "MaxConcurrency", at, 0, None, language)
        yield from self._number(state, "ToleratedFailureCount", at, 0, None, language)
        yield from self._number(state, "ToleratedFailurePercentage", at, 0, 100, language)

    def _inside(self, flow: Any, at: str, allowed: frozenset[str], language: str) -> Iterator[Diagnostic]:
        if not isinstance(flow, dict):
            yield _schema("Expected value of type Object", at)
            return
        yield from self._fields(flow, allowed, at)
        yield from self._flow(flow, at, language)

    # Shared checks

    def _number(
        self, holder: dict, name: str, at: str, least: int, most: int | None, language: str
    ) -> Iterator[Diagnostic]:
        value = holder.get(name)
        if name not in holder or (language == JSONATA and _expression(value)):
            return
        whole = name != "ToleratedFailurePercentage"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            yield _schema(f"Expected value of type {'Integer' if whole else 'Number'}", f"{at}/{name}")
        elif value < least:
            yield _schema(f"Minimum value is {least}", f"{at}/{name}")
        elif most is not None and value > most:
            yield _schema(f"Maximum value is {most}", f"{at}/{name}")

    def _handlers(self, handlers: Any, at: str, rules: Any, language: str) -> Iterator[Diagnostic]:
        if not isinstance(handlers, list):
            yield _schema("Expected value of type Array", at)
            return
        for index, handler in enumerate(handlers):
            where = f"{at}[{index}]"
            errors = handler.get("ErrorEquals") if isinstance(handler, dict) else None
            if not isinstance(errors, list) or not errors or not all(isinstance(e, str) for e in errors):
                yield _schema("Field 'ErrorEquals' must be an array with at least one error name", where)
                continue
            if "States.ALL" in errors and (len(errors) > 1 or index + 1 < len(handlers)):
                yield _schema("States.ALL must be the only error name, and in the last element", where)
            yield from rules(handler, where, language)

    def _retrier(self, retrier: dict, at: str, language: str) -> Iterator[Diagnostic]:
        yield from self._fields(retrier, _RETRY, at)
        yield from self._number(retrier, "IntervalSeconds", at, 1, 99_999_999, JSONPATH)
        yield from self._number(retrier, "MaxAttempts", at, 0, 99_999_999, JSONPATH)
        yield from self._number(retrier, "MaxDelaySeconds", at, 1, 31_622_400, JSONPATH)
        rate = retrier.get("BackoffRate", 1)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or rate < 1:
            yield _schema("Minimum value is 1.0", f"{at}/BackoffRate")
        if retrier.get("JitterStrategy", "NONE") not in ("FULL", "NONE"):
            yield _schema("Value must be one of [FULL, NONE]", f"{at}/JitterStrategy")

    def _catcher(self, catcher: dict, at: str, language: str) -> Iterator[Diagnostic]:
        yield from self._fields(catcher, _CATCH - _ONLY[JSONPATH if language == JSONATA else JSONATA], at)
        if not isinstance(catcher.get("Next"), str):
            yield _schema("Field 'Next' is required", at)


def _targets(state: dict) -> Iterator[tuple[str, Any]]:
    """Yield every possible next state: the location in `state` that names it, and its name."""
    if "Next" in state:
        yield "/Next", state["Next"]
    if "Default" in state:
        yield "/Default", state["Default"]
    for field in ("Choices", "Catch"):
        several = state.get(field)
        for index, each in enumerate(several if isinstance(several, list) else ()):
            if isinstance(each, dict) and "Next" in each:
                yield f"/{field}[{index}]/Next", each["Next"]
