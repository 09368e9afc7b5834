"""Figures of this architecture's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scenarios import Figure
from scenarios.data_centric.labelers import Labeler
from scenarios.data_centric.pictures import CLASSES, Pictures, number_of
from scenarios.drawing import FIRST, INK, QUIET, SECOND, THIRD, grid, picture

NAMES = {
    "full": ("all data", INK),
    "glister": ("our GLISTER", FIRST),
    "adaptive_random": ("adaptive random", SECOND),
    "fewer_epochs": ("fewer epochs", THIRD),
}
MOST_SUSPECTS = 24


def accuracy(path: Path, table: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy over billed time, for each strategy and fraction."""
    with picture(path, height=3.6) as axes:
        for strategy, (name, colour) in NAMES.items():
            rows = sorted(
                (row for row in table if row["strategy"] == strategy and row["runs"]),
                key=lambda row: row["billed_seconds"],
            )
            means = 100 * np.array([row["accuracy_mean"] for row in rows])
            ends = 100 * np.array([[row["accuracy_low"], row["accuracy_high"]] for row in rows]).T
            axes.errorbar(
                [row["billed_seconds"] for row in rows],
                means,
                np.abs(ends - means),
                color=colour,
                marker="o",
                markersize=3.5,
                capsize=2,
                linewidth=1.0,
                label=name,
            )
            for row, mean in zip(rows, means, strict=True):
                if strategy != "full":
                    axes.annotate(
                        f"{row['fraction']:.0%}",
                        (row["billed_seconds"], mean),
                        (4, -9),
                        textcoords="offset points",
                        color=QUIET,
                        fontsize=7,
                    )
        axes.set(
            xlabel="billed seconds of a run, its share of the job's start included", ylabel="accuracy, %"
        )
        axes.legend(loc="lower right")
    told = ", ".join(
        f"{NAMES[row['strategy']][0]} at {row['fraction']:.0%} {100 * row['accuracy_mean']:.1f} %"
        for row in table
        if row["runs"]
    )
    return Figure(
        "Accuracy against time",
        path,
        f"Accuracy on held-out pictures over billed seconds: {told}.",
        "Means over the seeds with 95 % intervals. The labels are fractions of the training set, or of the"
        " epochs, that were used.",
    )


def chart(path: Path, body: bytes) -> Figure:
    """Return the figure of the chart that the stack draws for an experiment."""
    path.write_bytes(body)
    return Figure(
        "The experiment's chart",
        path,
        "Accuracy over billed seconds, as the state machine of the sweep draws it.",
        "The stack stores it next to the sweep's table.",
    )


def reliability(path: Path, told: Sequence[Mapping[str, Any]], known: Mapping[str, Labeler]) -> Figure:
    """Draw the estimated quality of the labelers against their true accuracies."""
    spammers, others = [], []
    for each in told:
        if labeler := known.get(each["name"]):
            point = (1 / CLASSES if labeler.spammer else labeler.accuracy, each["quality"])
            (spammers if labeler.spammer else others).append(point)
    with picture(path) as axes:
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
        for points, colour, name in ((others, FIRST, "labelers"), (spammers, SECOND, "spammers")):
            if points:
                axes.scatter(*zip(*points, strict=True), color=colour, s=16, label=name)
        axes.set(xlabel="true accuracy", ylabel="estimated quality", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="upper left")
    return Figure(
        "Labelers' reliability",
        path,
        f"Estimated quality over true accuracy of {len(told)} labelers, {len(spammers)} of them spammers.",
        "The estimate is CROWDLAB's, from the labelers' answers and the model's predictions.",
    )


def suspects(path: Path, found: Sequence[Mapping[str, Any]], given: Pictures) -> Figure:
    """Draw the pictures with the most probable label errors."""
    shown = found[:MOST_SUSPECTS]
    with grid(path, rows=4, columns=6, width=4.6, height=3.9) as rows:
        cells = [axes for row in rows for axes in row]
        for axes, each in zip(cells, shown, strict=False):
            axes.imshow(255 - given.digits[number_of(each["source"])], cmap="gray", vmin=0, vmax=255)
            axes.set_title(f"{each['given']} → {each['suggested']}", fontsize=7.5, color=INK)
        for axes in cells:
            axes.set_axis_off()
    return Figure(
        "Most suspected of a wrong label",
        path,
        f"{len(shown)} digits with the given and the suggested label: "
        + ", ".join(f"{each['given']} to {each['suggested']}" for each in shown)
        + ".",
        f"The first of {len(found)} suspects: given label, then suggested label.",
    )
