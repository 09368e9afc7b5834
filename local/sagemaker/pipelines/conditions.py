"""Conditions of condition steps, in the format of the SageMaker Python SDK."""

from __future__ import annotations

import operator
from typing import Any

from local.sagemaker.api import unbuilt
from local.sagemaker.pipelines.expressions import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    UNKNOWN,
    Evaluator,
    NoValueError,
    References,
    check_members,
    malformed,
    type_of,
)

_COMPARISONS = {
    "Equals": operator.eq,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}
_UNBUILT = ("NotEquals", "NotIn")
"""Types that are in AWS's published schema of definitions but in no SDK."""
_NUMBERS = (INTEGER, FLOAT)


def check(condition: Any, known: References) -> None:
    """Raise ApiError for a condition that cannot be evaluated."""
    kind = condition.get("Type") if isinstance(condition, dict) else None
    if kind in _COMPARISONS:
        check_members(condition, ("Type", "LeftValue", "RightValue"), ("LeftValue", "RightValue"))
        types = [type_of(condition[side], known) for side in ("LeftValue", "RightValue")]
        _check_comparable(kind, *types)
    elif kind == "In":
        check_members(condition, ("Type", "QueryValue", "Values"), ("QueryValue", "Values"))
        wanted = type_of(condition["QueryValue"], known)
        for value in _list(condition["Values"]):
            _check_comparable("Equals", wanted, type_of(value, known))
    elif kind == "Not":
        check_members(condition, ("Type", "Condition"), ("Condition",))
        check(condition["Condition"], known)
    elif kind == "Or":
        check_members(condition, ("Type", "Conditions"), ("Conditions",))
        for each in _list(condition["Conditions"]):
            check(each, known)
    elif kind in _UNBUILT:
        raise unbuilt(f"CreatePipeline with a condition of type {kind}")
    else:
        known_types = ", ".join((*_COMPARISONS, "In", "Not", "Or"))
        raise malformed(f"Type of a condition must be one of {known_types}, got {kind!r}")


def _list(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise malformed("Expecting start of Json Array.")
    return values


def _check_comparable(kind: str, left: str, right: str) -> None:
    same = left == right or {left, right} <= set(_NUMBERS) or UNKNOWN in (left, right)
    if not same:
        raise malformed(f"{kind} cannot compare a value of type {left} with one of type {right}")
    if kind != "Equals" and BOOLEAN in (left, right):
        raise malformed(f"{kind} cannot compare values of type {BOOLEAN}")


def holds(condition: dict[str, Any], evaluator: Evaluator) -> bool:
    """Return whether a checked condition is true. Raises NoValueError for missing or incomparable values."""
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Condition"], evaluator)
    if kind == "Or":
        return any(holds(each, evaluator) for each in condition["Conditions"])
    if kind == "In":
        wanted = evaluator.value(condition["QueryValue"])
        return any(_compared("Equals", wanted, evaluator.value(each)) for each in condition["Values"])
    left, right = (evaluator.value(condition[side]) for side in ("LeftValue", "RightValue"))
    return _compared(kind, left, right)


def _compared(kind: str, left: Any, right: Any) -> bool:
    kinds = {_kind(left), _kind(right)}
    if (
        len(kinds) > 1
        or not kinds <= {"number", "text", "truth"}
        or (kinds == {"truth"} and kind != "Equals")
    ):
        raise NoValueError(f"{kind} cannot compare {left!r} with {right!r}")
    return _COMPARISONS[kind](left, right)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__
