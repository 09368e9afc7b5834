"""The comparison of a sweep's runs: intervals, paired differences, the recommendation, the chart."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from data_centric.core.comparison import (
    Interval,
    Outcome,
    Recommendation,
    Row,
    Run,
    recommended,
    runs_of,
    student,
    table,
)
from data_centric.core.comparison_chart import svg
from data_centric.core.sweep import Cell
from data_centric.core.sweep_files import measured, measurement, report
from tests.support.data_centric.sweeps import sweep

FULL = Cell("001", "full", 1.0)
HALF, TENTH = Cell("002", "glister", 0.5), Cell("003", "glister", 0.1)
RANDOM = Cell("004", "adaptive_random", 0.1)
BILLED = {"full": 100.0, "glister": 60.0, "adaptive_random": 20.0}


def runs(cell: Cell, *accuracies: float, billed: float | None = None) -> list[Run]:
    seconds = BILLED[cell.strategy] if billed is None else billed
    return [
        Run(
            cell.id,
            cell.strategy,
            cell.fraction,
            seed,
            f"job-{cell.id}",
            accuracy,
            0.9,
            0.91,
            10,
            seconds / 2,
            seconds / 20,
            seconds,
            "v1",
            "d1",
        )
        for seed, accuracy in enumerate(accuracies)
    ]


def compared(*parts: tuple[Cell, list[Run]]) -> list[Row]:
    outcomes = [
        Outcome(cell.id, f"job-{cell.id}", "Completed" if own else "Failed", "" if own else "no memory", 50)
        for cell, own in parts
    ]
    return table([cell for cell, _ in parts], outcomes, [run for _, own in parts for run in own])


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423), (99, 1.9842)]
)
def test_student_t_quantiles_equal_those_of_tables(freedom: int, value: float) -> None:
    assert student(freedom) == pytest.approx(value, abs=5e-5)


def test_interval_holds_the_mean_in_95_of_100() -> None:
    drawn = random.Random(0)
    inside = 0
    for _ in range(4000):
        found = Interval.of([drawn.gauss(3, 2) for _ in range(5)])
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 3 <= found.high
    assert 0.94 < inside / 4000 < 0.96


def test_interval_of_one_run_has_no_limits() -> None:
    assert Interval.of([0.5]) == Interval(0.5, None, None)


def test_differences_are_paired_by_seed() -> None:
    # given accuracies that vary much between seeds, and little between strategies of one seed
    rows = compared((FULL, runs(FULL, 0.90, 0.80, 0.70)), (HALF, runs(HALF, 0.89, 0.80, 0.69)))
    # then the interval of the paired difference is narrow
    difference = rows[1].difference
    assert difference is not None
    assert difference.mean == pytest.approx(-0.02 / 3)
    assert difference.low is not None
    assert difference.low > -0.03
    assert (rows[1].billed_ratio, rows[1].selection_share) == (0.6, pytest.approx(0.1))
    assert rows[0].difference == Interval(0, 0, 0)
    assert rows[1].accuracy == Interval.of([0.89, 0.80, 0.69])


def test_strategy_whose_interval_is_wide_is_not_recommended() -> None:
    rows = compared((FULL, runs(FULL, 0.9, 0.9, 0.9)), (TENTH, runs(TENTH, 0.95, 0.9, 0.85)))
    assert recommended(rows, 0.01).strategy == "full"


def test_seed_that_full_lacks_has_no_difference() -> None:
    rows = compared((FULL, runs(FULL, 0.9, 0.8)), (HALF, runs(HALF, 0.9, 0.8, 0.1)))
    assert rows[1].runs == 3
    assert rows[1].difference == Interval(0, 0, 0)


def test_failed_job_is_a_row_with_its_reason() -> None:
    rows = compared((FULL, runs(FULL, 0.9, 0.8)), (HALF, []), (TENTH, runs(TENTH, 0.9, 0.8)))
    assert (rows[1].status, rows[1].reason, rows[1].runs, rows[1].accuracy) == (
        "Failed",
        "no memory",
        0,
        None,
    )
    found = report(recommended(rows, 0.01), rows, [Outcome("001", "", "Completed", "", 7)], "v1")
    assert (found["completed"], found["billed_seconds"]) == (2, 7)
    assert found["failed"] == [{"cell": "002", "strategy": "glister", "fraction": 0.5, "reason": "no memory"}]


def test_smallest_fraction_as_accurate_as_full_is_recommended() -> None:
    rows = compared(
        (FULL, runs(FULL, 0.90, 0.91, 0.92)),
        (HALF, runs(HALF, 0.90, 0.91, 0.92)),
        (TENTH, runs(TENTH, 0.899, 0.908, 0.919)),
        (RANDOM, runs(RANDOM, 0.88, 0.89, 0.90)),
    )
    found = recommended(rows, 0.01)
    assert (found.strategy, found.fraction) == ("glister", 0.1)
    assert "95 % interval over 3 seeds; the lower limit must be at least -1.00 points" in found.reason
    assert "adaptive_random -2.00 points (-2.00 to -2.00)" in found.reason
    assert recommended(rows, 0.0).fraction == 0.5


def test_control_is_recommended_when_equally_good() -> None:
    rows = compared(
        (FULL, runs(FULL, 0.90, 0.91, 0.92)),
        (TENTH, runs(TENTH, 0.899, 0.909, 0.919)),
        (RANDOM, runs(RANDOM, 0.90, 0.91, 0.92)),
    )
    assert recommended(rows, 0.01).strategy == "adaptive_random"


def test_strategy_that_bills_more_than_full_is_not_recommended() -> None:
    same = (0.90, 0.91, 0.92)
    rows = compared((FULL, runs(FULL, *same)), (TENTH, runs(TENTH, *same, billed=130)))
    found = recommended(rows, 0.01)
    assert (found.strategy, found.fraction) == ("full", 1.0)
    assert found.reason.startswith(
        "no strategy costs less than full and has a difference with a lower limit of"
    )


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (compared((FULL, []), (HALF, runs(HALF, 0.9, 0.8))), "full did not complete: no memory"),
        (compared((FULL, runs(FULL, 0.9)), (HALF, runs(HALF, 0.9))), "an interval needs at least 2 seeds"),
        (compared((HALF, runs(HALF, 0.9, 0.9))), "there is no baseline"),
    ],
)
def test_nothing_is_recommended_without_an_interval(rows: list[Row], sentence: str) -> None:
    found = recommended(rows, 0.01)
    assert found == Recommendation(None, None, None, None, found.reason)
    assert sentence in found.reason


def results(**changes: Any) -> dict[str, Any]:
    run = {"seed": 3, "test_accuracy": 0.9, "validation_accuracy": 0.8, "best_validation_accuracy": 0.85}
    run |= {"epochs": 4, "seconds": 10.0, "selection_seconds": 1.0}
    settings = {"strategy": "glister", "fraction": 0.5}
    return {"settings": settings, "runs": [run, run | {"seed": 4}], "data": "d1"} | changes


def test_runs_of_a_job_share_its_billed_seconds() -> None:
    found = runs_of(HALF, Outcome("002", "job-2", "Completed", "", 70), results(), "v1")
    assert [(run.seed, run.billed_seconds, run.labels) for run in found] == [(3, 35, "v1"), (4, 35, "v1")]


def test_results_of_another_cell_are_refused() -> None:
    outcome = Outcome("003", "job-2", "Completed", "", 70)
    with pytest.raises(ValueError, match=r"must be of strategy glister at 0\.1, got glister at 0\.5"):
        runs_of(TENTH, outcome, results(), "v1")


def test_results_without_a_test_accuracy_are_refused() -> None:
    outcome = Outcome("002", "job-2", "Completed", "", 70)
    untested = {name: value for name, value in results()["runs"][0].items() if name != "test_accuracy"}
    with pytest.raises(ValueError, match="job-2 have no test_accuracy"):
        runs_of(HALF, outcome, results(runs=[untested]), "v1")


def test_measurement_is_reused_for_the_same_work_only() -> None:
    given = {"dataset": "digits", "hyperparameters": {"epochs": "40"}}
    body = json.dumps(measurement(given, runs(FULL, 0.9, 0.8))).encode()
    assert measured(body, sweep(hyperparameters={"epochs": 40})) == {"full_seconds": 50, "start_seconds": 100}
    assert measured(body, sweep(hyperparameters={"epochs": 41})) == {}
    assert measured(None, sweep()) == {}
    assert measurement(given, runs(HALF, 0.9)) is None


def test_chart_has_each_cell_with_its_interval() -> None:
    rows = compared(
        (FULL, runs(FULL, 0.90, 0.91)),
        (HALF, runs(HALF, 0.9, 0.91)),
        (TENTH, []),
        (RANDOM, runs(RANDOM, 0.8)),
    )
    drawn = ElementTree.fromstring(svg("digits & <more>", rows))  # noqa: S314 - our own output
    space = "{http://www.w3.org/2000/svg}"
    texts = [each.text for each in drawn.iter(f"{space}text")]
    assert texts[0] == "digits & <more>"
    assert {"full", "glister", "adaptive_random", "1", "0.5", "0.1"} <= set(texts)
    marks = [each for each in drawn.iter(f"{space}circle") if float(each.get("cx") or 0) < 570]
    assert len(marks) == 3
    assert all(40 <= float(mark.get("cy") or 0) <= 388 for mark in marks)


def test_chart_without_a_run_has_a_note() -> None:
    assert "No job completed." in svg("empty", compared((FULL, [])))
