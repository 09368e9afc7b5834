"""Ranges of hyperparameters, and the rule of early stopping."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from local.sagemaker.tuning.early_stopping import is_worse
from local.sagemaker.tuning.ranges import Range, ranges_of


def only(kind: str, **members: Any) -> Range:
    (found,) = ranges_of({f"{kind}ParameterRanges": [{"Name": "x", **members}]})
    return found


def drawn(found: Range, count: int = 1000) -> list[float]:
    return [float(found.text((number + 0.5) / count)) for number in range(count)]


@pytest.mark.parametrize(
    ("scaling", "low", "high", "middle"),
    [
        ("Linear", "2", "6", 4),
        ("Auto", "2", "6", 4),
        ("Logarithmic", "0.01", "1", 0.1),
        ("Auto", "0.01", "1", 0.1),
        ("ReverseLogarithmic", "0.9", "0.999", 0.99),
    ],
)
def test_scaling_sets_the_middle_of_a_range(scaling: str, low: str, high: str, middle: float) -> None:
    found = only("Continuous", MinValue=low, MaxValue=high, ScalingType=scaling)
    assert float(found.text(0.5)) == pytest.approx(middle)
    assert (float(found.text(0)), float(found.text(1))) == (
        pytest.approx(float(low)),
        pytest.approx(float(high)),
    )
    values = drawn(found)
    assert all(float(low) <= value <= float(high) for value in values)
    assert values == sorted(values)


def test_integers_are_equally_likely_limits_included() -> None:
    counts = Counter(drawn(only("Integer", MinValue="-1", MaxValue="3"), 5000))
    assert sorted(counts) == [-1, 0, 1, 2, 3]
    assert max(counts.values()) - min(counts.values()) <= 2


def test_logarithmic_integers_stay_in_their_range() -> None:
    found = only("Integer", MinValue="1", MaxValue="1000", ScalingType="Logarithmic")
    values = drawn(found)
    assert (min(values), found.text(1.0)) == (1, "1000")
    assert 20 < sorted(values)[500] < 40


def test_categories_are_equally_likely() -> None:
    found = only("Categorical", Values=["a", "b", "c"])
    assert Counter(found.text(number / 300) for number in range(300)) == {"a": 100, "b": 100, "c": 100}
    assert found.text(1.0) == "c"


@pytest.mark.parametrize(
    ("kind", "members", "sentence"),
    [
        ("Integer", {"MinValue": "0.5", "MaxValue": "2"}, "limits of x must be whole numbers, got 0.5 and 2"),
        ("Continuous", {"MinValue": "a", "MaxValue": "2"}, "limits of x must be numbers, got a and 2"),
        ("Continuous", {"MinValue": "2", "MaxValue": "2"}, "MinValue of x must be less than MaxValue"),
        ("Continuous", {"MinValue": "0", "MaxValue": "inf"}, "MinValue of x must be less than MaxValue"),
        (
            "Continuous",
            {"MinValue": "0", "MaxValue": "1", "ScalingType": "Logarithmic"},
            "MinValue of x must be above 0",
        ),
        (
            "Continuous",
            {"MinValue": "0", "MaxValue": "1", "ScalingType": "ReverseLogarithmic"},
            "must be from 0 to below 1",
        ),
        ("Categorical", {"Values": ["a", "a"]}, "values of x must differ"),
    ],
)
def test_invalid_range_is_refused(kind: str, members: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        only(kind, **members)


@pytest.mark.parametrize(
    ("current", "earlier", "worse"),
    [
        ([0.5], [], False),
        ([], [[0.9]], False),
        # the running averages of the earlier jobs up to the second epoch are 0.5, 0.6 and 0.7
        ([0.9, 0.59], [[0.4, 0.6], [0.6, 0.6], [0.7, 0.7]], True),
        ([0.1, 0.61], [[0.4, 0.6], [0.6, 0.6], [0.7, 0.7]], False),
        ([0.1, 0.6], [[0.4, 0.6], [0.6, 0.6], [0.7, 0.7]], False),
        # a job that ended before the current epoch is not compared
        ([0.1, 0.1, 0.1], [[0.9, 0.9], [0.05, 0.05, 0.05]], False),
        # metrics of later epochs are not compared
        ([0.5], [[0.4, 1.0, 1.0]], False),
    ],
)
def test_median_rule_compares_with_running_averages(
    current: list[float], earlier: list[list[float]], worse: bool
) -> None:
    assert is_worse(current, earlier, maximize=True) is worse
    mirrored = [[-value for value in values] for values in earlier]
    assert is_worse([-value for value in current], mirrored, maximize=False) is worse


def test_median_of_an_even_number_is_the_middle() -> None:
    assert is_worse([0.49], [[0.4], [0.6]], maximize=True)
    assert not is_worse([0.5], [[0.4], [0.6]], maximize=True)
