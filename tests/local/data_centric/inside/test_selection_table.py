"""The table of the benchmark of strategies: intervals, paired differences, and stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.data_centric import bounds, mnist, robustness, runs, selection_table
from benchmarks.data_centric.runs import Cell, Experiment, Results, interval, measured
from benchmarks.data_centric.selection import COMPARED
from benchmarks.data_centric.selection_table import Table, cells_of, figures
from subset_training.data import Examples
from subset_training.strategies.names import MAKERS

FULL, RANDOM, OURS = (
    Cell("clean", *each) for each in (("full", 1.0), ("adaptive_random", 0.1), ("glister", 0.1))
)


def row(cell: Cell, seed: int, accuracy: float, **more: float) -> dict[str, Any]:
    return {**cell._asdict(), "seed": seed, "accuracy": accuracy, **more}


def test_interval_uses_students_t_distribution() -> None:
    found = interval([1.0, 2.0, 3.0])
    # the standard error is 1 / sqrt(3); 4.3027 is the t quantile for two degrees of freedom
    assert found == pytest.approx((2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


def test_differences_pair_the_seeds_that_both_have() -> None:
    # given accuracies of `random` for three seeds, and of our strategy for two of these seeds, 1 and 2 points
    # lower
    rows = [row(RANDOM, seed, 90.0 + seed) for seed in range(3)]
    rows += [row(OURS, 1, 90.0), row(OURS, 2, 90.0)]
    # when
    found = Table(rows).difference(OURS, RANDOM)
    # then
    assert found is not None
    assert found.value == -1.5
    assert found.low == pytest.approx(-1.5 - 12.7062 * 0.5, abs=1e-3)


def test_figures_have_the_names_of_the_bounds() -> None:
    # given rows of all strategies and fractions for two seeds
    cells = cells_of(["clean"], COMPARED, [0.5, 0.3, 0.1])
    measures = {"time_ratio": 0.5, "selection_share": 0.01, "forwards_saved": 0.4}
    rows = [row(cell, seed, 95.0, **measures) for cell in cells for seed in (0, 1)]
    # when
    found = figures(Table(rows), "clean", [0.5, 0.3, 0.1])
    # then each bound has a figure, and each figure outside of its bound is reported
    assert {metric.name for metric in bounds.SELECTION} <= found.keys()
    assert bounds.missed(bounds.SELECTION, found) == [
        "time_ratio_30",
        "time_ratio_10",
        "over_adaptive_random_10_low",
    ]


def test_compared_strategies_are_those_of_the_image() -> None:
    assert {*robustness.COMPARED} <= {*COMPARED} <= MAKERS.keys()


@pytest.fixture
def experiment() -> Experiment:
    """An experiment of two epochs on small pictures, with splits as large as those of MNIST."""
    labels = torch.arange(5000) % 10
    images = torch.randint(40, (5000, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    images.view(5000, 16)[torch.arange(5000), labels] += 200
    return Experiment(Examples(images.to(torch.uint8), labels), epochs=2)


def test_runs_of_a_seed_are_measured_against_full(experiment: Experiment) -> None:
    rows = measured(experiment, [FULL, RANDOM, OURS], 0, Results(None))
    assert [(each["strategy"], each["fraction"]) for each in rows] == [
        cell[1:] for cell in (FULL, RANDOM, OURS)
    ]
    full, random, ours = rows
    assert full["time_ratio"] == 1
    for each in (random, ours):
        assert each["time_ratio"] == pytest.approx(each["cpu_seconds"] / full["cpu_seconds"])
        assert each["forwards_saved"] == pytest.approx(0.9)
    assert random["selection_forwards"] == 0
    assert all(0 <= each["accuracy"] <= 100 for each in rows)


def test_resumed_benchmark_trains_missing_runs_only(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given results of two of three runs, and half a line of the third
    path = tmp_path / "new" / "runs.jsonl"
    before = measured(experiment, [FULL, RANDOM], 0, Results(path))
    with path.open("a") as handle:
        handle.write('{"condition": "cl')
    trained: list[str] = []
    learner = runs.Learner
    monkeypatch.setattr(runs, "Learner", lambda *given: trained.append(given[0].strategy) or learner(*given))
    # when the benchmark is run again
    after = measured(experiment, [FULL, RANDOM, OURS], 0, Results(path))
    # then
    assert trained == ["glister"]
    assert after[:2] == before
    assert len(Results(path).rows) == 3
    # and a run that was not trained together with `full` has no time ratio
    assert "time_ratio" not in after[2]


def test_results_of_another_split_are_ignored(experiment: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    measured(experiment, [FULL], 0, Results(path))
    other = Experiment(experiment.pictures, experiment.epochs, development=True)
    measured(other, [FULL], 0, Results(path))
    assert len(path.read_text().splitlines()) == 2


def test_table_has_the_rows_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(cell, seed, 95.0, time_ratio=0.5) for cell in (FULL, RANDOM, OURS) for seed in (0, 1)]
    selection_table.show(Table(rows), mnist.CLEAN, [FULL, RANDOM, OURS])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["GLISTER", "paper,", "LeNet", "0.1", "-3.00", "0.167"]
    assert "95.00 [95.00, 95.00]" in lines[-2]
