"""Ranges of hyperparameters, and the mapping from points in [0, 1] to values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

WIDE = 100
"""Minimum ratio of a range's upper limit to its lower limit for which the scaling `Auto` is logarithmic."""


@dataclass(frozen=True)
class Range:
    """A hyperparameter that is tuned. `text` returns its value for a point from 0 to 1."""

    name: str
    choices: int
    """Number of values of a categorical range, otherwise 0"""
    text: Callable[[float], str]


def ranges_of(config: Mapping[str, Any]) -> list[Range]:
    """Return the ranges of a `ParameterRanges`. Raises ValueError for an invalid one."""
    found = [
        *(_numeric(each, whole=True) for each in config.get("IntegerParameterRanges", [])),
        *(_numeric(each, whole=False) for each in config.get("ContinuousParameterRanges", [])),
        *(_categorical(each) for each in config.get("CategoricalParameterRanges", [])),
    ]
    names = [each.name for each in found]
    if not names:
        raise ValueError("ParameterRanges needs at least one range")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Hyperparameters must have one range each, got several of {', '.join(twice)}")
    return found


def _categorical(given: Mapping[str, Any]) -> Range:
    values = given["Values"]
    if len(set(values)) < len(values):
        raise ValueError(f"The values of {given['Name']} must differ from each other")
    count = len(values)
    return Range(given["Name"], count, lambda unit: values[min(int(unit * count), count - 1)])


def _numeric(given: Mapping[str, Any], *, whole: bool) -> Range:
    name, kind = given["Name"], int if whole else float
    try:
        low, high = kind(given["MinValue"]), kind(given["MaxValue"])
    except ValueError:
        what = "whole numbers" if whole else "numbers"
        limits = f"{given['MinValue']} and {given['MaxValue']}"
        raise ValueError(f"The limits of {name} must be {what}, got {limits}") from None
    if not low < high or not math.isfinite(high - low):
        raise ValueError(f"MinValue of {name} must be less than MaxValue, got {low} and {high}")
    scale = _scale(name, given.get("ScalingType", "Auto"), low, high)
    if not whole:
        return Range(name, 0, lambda unit: repr(min(max(scale(unit), low), high)))
    # Half a step wider on both sides, so that the limits are as likely as other values
    wider = _scale(name, given.get("ScalingType", "Auto"), low, high, half=0.5)
    return Range(name, 0, lambda unit: str(int(min(max(round(wider(unit)), low), high))))


def _scale(name: str, kind: str, low: float, high: float, half: float = 0) -> Callable[[float], float]:
    """Return the function from a point to a value."""
    if kind == "Auto":
        kind = "Logarithmic" if low > 0 and high / low >= WIDE else "Linear"
    if kind == "Logarithmic":
        if low <= 0:
            raise ValueError(f"MinValue of {name} must be above 0 for ScalingType Logarithmic, got {low}")
        start, end = math.log(low - min(half, low / 2)), math.log(high + half)
        return lambda unit: math.exp(start + unit * (end - start))
    if kind == "ReverseLogarithmic":
        if not 0 <= low < high < 1:
            raise ValueError(
                f"The limits of {name} must be from 0 to below 1 for ScalingType ReverseLogarithmic,"
                f" got {low} and {high}"
            )
        start, end = math.log(1 - low), math.log(1 - high)
        return lambda unit: 1 - math.exp(start + unit * (end - start))
    return lambda unit: low - half + unit * (high - low + 2 * half)
