"""The figures of these benchmarks with their bounds."""

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
            f"glister at {percent} %: processor seconds, selection included, over those of full",
            "",
            "lower",
            bound,
        )
        for percent, bound in ((50, 0.55), (30, 0.36), (10, 0.16))
    ),
    Metric(
        "selection_share_50",
        "glister at 50 %: processor seconds of selection over those of training",
        "",
        "lower",
        0.08,
    ),
    *(
        Metric(
            f"accuracy_difference_{percent}_low",
            f"glister at {percent} %, points of accuracy above full, paired: {LOW}",
            "points",
            "higher",
            bound,
        )
        for percent, bound in ((50, -0.5), (30, -1.0))
    ),
    *(
        Metric(
            f"over_adaptive_random_{percent}_low",
            f"glister at {percent} %, points of accuracy above adaptive random, paired: {LOW}",
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
        f"infobatch, points of accuracy above full, paired: {LOW}",
        "points",
        "higher",
        -1.5,
    ),
]
SPEED = [
    Metric(
        "glister_speed_ratio",
        "processor seconds of a GLISTER selection from gradients of single examples by autograd, over ours",
        "",
        "higher",
        15,
    ),
    Metric("glister_speed_ratio_cords", "the same of CORDS's own code, over ours", "", "higher", 10),
    Metric(
        "glister_speed_ratio_recorded",
        "that of autograd over ours with outputs recorded in training, which needs no forward pass over the"
        " training set",
    ),
    Metric("glister_speed_ratio_recorded_cords", "that of CORDS over the same"),
    Metric(
        "glister_same_subset", "share of ours that the others select as well; the least", "", "higher", 1.0
    ),
]


CIFAR: list[Metric] = []
"""Figures that are reported without bounds, because they depend on the chosen size."""


def missed(metrics: Sequence[Metric], figures: dict[str, float]) -> list[str]:
    """Return the names of the figures that were measured and are outside of their bounds."""
    return [each.name for each in metrics if each.name in figures and not each.reached(figures[each.name])]


def finish(metrics: Sequence[Metric], report: dict[str, Any], path: Path | None) -> int:
    """Write the report with its figures, print the bounds, and return the exit code."""
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
