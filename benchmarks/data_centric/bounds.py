"""The figures of the benchmarks of `data_centric`, with their bounds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scenarios import Metric

LOW = "lower end of its 95 % interval"
SELECTION = [
    *(
        Metric(
            f"time_ratio_{percent}",
            f"glister at {percent} %: processor seconds, selection included, divided by those of full",
            "",
            "lower",
            bound,
        )
        for percent, bound in ((50, 0.55), (30, 0.36), (10, 0.16))
    ),
    Metric(
        "selection_share_50",
        "glister at 50 %: processor seconds of selection divided by those of training",
        "",
        "lower",
        0.08,
    ),
    *(
        Metric(
            f"accuracy_difference_{percent}_low",
            f"glister at {percent} %: accuracy minus that of full, paired by seed, {LOW}",
            "points",
            "higher",
            bound,
        )
        for percent, bound in ((50, -0.5), (30, -1.0))
    ),
    *(
        Metric(
            f"over_adaptive_random_{percent}_low",
            f"glister at {percent} %: accuracy minus that of adaptive random, paired by seed, {LOW}",
            "points",
            "higher",
            bound,
        )
        for percent, bound in ((50, -0.5), (30, -1.0), (10, 1e-9))
    ),
    Metric(
        "infobatch_forwards_saved",
        "infobatch: share of the training's forward passes that it leaves out",
        "",
        "higher",
        0.3,
    ),
    Metric(
        "infobatch_difference_low",
        f"infobatch: accuracy minus that of full, paired by seed, {LOW}",
        "points",
        "higher",
        -1.5,
    ),
]
SPEED = [
    Metric(
        "glister_speed_ratio",
        "processor seconds of a GLISTER selection with per-example gradients by autograd, divided by ours",
        "",
        "higher",
        15,
    ),
    Metric(
        "glister_speed_ratio_cords",
        "processor seconds of CORDS's selection divided by ours",
        "",
        "higher",
        10,
    ),
    Metric(
        "glister_speed_ratio_recorded",
        "processor seconds of the autograd selection divided by ours with outputs that were recorded in"
        " training, which needs no forward pass over the training set",
    ),
    Metric(
        "glister_speed_ratio_recorded_cords",
        "processor seconds of CORDS's selection divided by ours with recorded outputs",
    ),
    Metric(
        "glister_same_subset",
        "share of our selection that every other implementation selects too",
        "",
        "higher",
        1.0,
    ),
]


CIFAR: list[Metric] = []
"""Empty: the figures of CIFAR-10 have no bounds, because they depend on the chosen size of the experiment."""


def missed(metrics: Sequence[Metric], figures: dict[str, float]) -> list[str]:
    """Return the names of the measured figures that miss their bounds."""
    return [each.name for each in metrics if each.name in figures and not each.reached(figures[each.name])]


def finish(metrics: Sequence[Metric], report: dict[str, Any], path: Path | None) -> int:
    """Print the figures that have bounds, write the report to `path`, and return the exit code: 1 if a bound
    is missed."""
    figures: dict[str, float] = report["metrics"]
    if metrics:
        print("\nBounds:")
    for metric in metrics:
        if metric.bound is None or (value := figures.get(metric.name)) is None:
            continue
        word = "least" if metric.better == "higher" else "most"
        verdict = "reached" if metric.reached(value) else "NOT REACHED"
        print(f"  {metric.name} {value:.4g}, at {word} {metric.bound:g}: {verdict}")
        print(f"    {metric.meaning}")
    report["missed"] = missed(metrics, figures)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
        print(f"\nFigures in {path}.")
    return int(bool(report["missed"]))
