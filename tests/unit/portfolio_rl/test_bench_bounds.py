"""The benchmarks' bounds: a missed bound is named and sets the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.portfolio_rl import bounds, own_prices, ray_cluster, refusals, speed, values

REACHED = {"joint_orders": 10_000_000, "constraint_violations": 0, "refused": 4}


def test_finish_returns_0_when_every_bound_is_reached(tmp_path: Path):
    path = tmp_path / "out" / "figures.json"
    assert bounds.finish(bounds.REFUSALS, {"metrics": REACHED}, path, lambda line: None) == 0
    assert json.loads(path.read_text()) == {"metrics": REACHED, "missed": []}


def test_finish_returns_1_and_names_the_missed_bound():
    said: list[str] = []
    report = {"metrics": REACHED | {"constraint_violations": 1}}
    assert bounds.finish(bounds.REFUSALS, report, None, said.append) == 1
    assert report["missed"] == ["constraint_violations must be at most 0, got 1"]
    assert any("constraint_violations 1, at most 0: NOT REACHED" in line for line in said)


def test_nan_is_missed_and_an_absent_figure_is_not():
    figures = {"value_ratio_best_strict": float("nan")}
    assert [each.partition(" ")[0] for each in bounds.missed(bounds.VALUES, figures)] == [*figures]


def test_gain_whose_interval_touches_zero_is_missed():
    assert bounds.missed(bounds.VALUES, {"gain_low_corrected": 0.0})
    assert not bounds.missed(bounds.VALUES, {"gain_low_corrected": 0.1})


@pytest.mark.parametrize(
    ("parse", "arguments"),
    [
        (values.parse, ["--seeds", "0"]),
        (values.parse, ["--paths", "50", "--solver-paths", "51"]),
        (values.parse, ["--ppo-seconds", "0"]),
        (speed.parse, ["--published", "missing.py"]),
        (speed.parse, ["--seconds", "0"]),
        (refusals.parse, ["--orders", "10", "--exact-orders", "10"]),
        (own_prices.parse, ["--rows", "100"]),
        (own_prices.parse, ["--walks", "0"]),
        (ray_cluster.parse, ["--seeds", "1"]),
        (ray_cluster.parse, ["--source-episodes", "5"]),
    ],
)
def test_wrong_arguments_are_refused(parse, arguments):
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2


def test_published_code_of_another_content_is_refused(tmp_path: Path):
    path = tmp_path / "trading.py"
    path.write_text("print('other')")
    with pytest.raises(SystemExit, match="must have SHA-256 9703dc0a"):
        speed.published(path)
