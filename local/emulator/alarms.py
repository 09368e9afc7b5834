"""Evaluation of CloudWatch alarms: periods, missing data, and metric math."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

Series = list[float | None]
"""One value for each of the alarm's periods, the latest first; None for a period without data."""
Lookup = Callable[[dict[str, Any], str, int, int], Series]
"""Function `(metric, statistic, period in seconds, number of periods)` that returns a metric's values."""

COMPARISONS = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
TOTALS: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "MAX": max,
    "MIN": min,
    "AVG": lambda values: sum(values) / len(values),
}


def judge(alarm: dict[str, Any], lookup: Lookup) -> tuple[str, str] | None:
    """Return the state that follows from the alarm's data, and the reason; None if the state does not
    change."""
    values = datapoints(alarm, lookup)
    breaches = COMPARISONS[alarm["ComparisonOperator"]]
    missing = {"breaching": True, "notBreaching": False}.get(alarm.get("TreatMissingData") or "missing")
    judged = [missing if value is None else breaches(value, alarm["Threshold"]) for value in values]
    known = [breaching for breaching in judged if breaching is not None]
    if not known:
        ignored = alarm.get("TreatMissingData") == "ignore"
        return None if ignored else ("INSUFFICIENT_DATA", "Insufficient Data: no datapoints were received")
    needed = alarm.get("DatapointsToAlarm") or len(values)
    crossed = sum(known)
    shown = ", ".join("missing" if value is None else f"{value:g}" for value in values)
    rule = f"{alarm['ComparisonOperator']} {alarm['Threshold']:g}"
    reason = f"Threshold Crossed: {crossed} of the last {len(values)} datapoints [{shown}] were {rule}"
    return ("ALARM" if crossed >= min(needed, len(known)) else "OK"), reason


def datapoints(alarm: dict[str, Any], lookup: Lookup) -> Series:
    """Return the values that the alarm evaluates. Raises `ValueError` for unsupported metric math."""
    periods = int(alarm.get("EvaluationPeriods") or 1)
    if not alarm.get("Metrics"):
        metric = {key: alarm.get(key) for key in ("Namespace", "MetricName", "Dimensions")}
        statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
        return lookup(metric, statistic, int(alarm.get("Period") or 60), periods)
    queries = {query["Id"]: query for query in alarm["Metrics"]}

    def value_of(name: str) -> Series:
        if name not in queries:
            raise ValueError(f"An alarm's expression has {name}, which is none of the IDs of its metrics")
        query = queries[name]
        if "Expression" in query:
            return calculate(ast.parse(query["Expression"], mode="eval").body)
        stat = query["MetricStat"]
        return lookup(stat["Metric"], stat["Stat"], int(stat["Period"]), periods)

    def calculate(node: ast.expr) -> Series:
        match node:
            case ast.Constant(value=int() | float() as number):
                return [number] * periods
            case ast.Name(id=name):
                return value_of(name)
            case ast.UnaryOp(op=ast.USub(), operand=of):
                return [None if value is None else -value for value in calculate(of)]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                pairs = zip(calculate(left), calculate(right), strict=True)
                return [_apply(OPERATORS[type(op)], one, other) for one, other in pairs]
            case ast.Call(
                func=ast.Name(id="FILL"), args=[of, ast.Constant(value=int() | float() as instead)]
            ):
                return [instead if value is None else value for value in calculate(of)]
            case ast.Call(func=ast.Name(id=total), args=[ast.List(elts=parts)]) if total in TOTALS:
                columns = zip(*(calculate(part) for part in parts), strict=True)
                present = [[value for value in column if value is not None] for column in columns]
                return [TOTALS[total](column) if column else None for column in present]
        raise ValueError(
            f"{ast.unparse(node)} in an alarm's expression is not implemented in the local cloud"
        )

    shown = [name for name, query in queries.items() if query.get("ReturnData", True)]
    if len(shown) != 1:
        raise ValueError(f"Exactly one of an alarm's metrics must have ReturnData, got {len(shown)}")
    return value_of(shown[0])


def _apply(
    calculate: Callable[[float, float], float], one: float | None, other: float | None
) -> float | None:
    """Apply an operator. As in CloudWatch, a missing operand or a division by zero gives a missing result."""
    if one is None or other is None:
        return None
    try:
        return calculate(one, other)
    except ZeroDivisionError:
        return None
