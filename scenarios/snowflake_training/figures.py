"""Figures of this architecture's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scenarios import Figure
from scenarios.drawing import FIRST, GRID, INK, QUIET, SECOND, THIRD, picture

Estimate = dict[str, Any]
"""A mean over seeds: `mean`, `low` and `high` of its 95 % interval, and the `values`."""

SHOWN = 1500  # maximum number of points in a scatter plot, for the size of the page


def predictions(path: Path, true: np.ndarray, predicted: np.ndarray, unit: str, rmse: float) -> Figure:
    """Draw the endpoint's predictions of held-out rows against the true values, both (rows,), in `unit`."""
    shown = np.random.default_rng(0).permutation(len(true))[:SHOWN]
    low, high = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))
    with picture(path, height=3.8) as axes:
        axes.scatter(true[shown], predicted[shown], s=5, color=FIRST, alpha=0.35, linewidths=0)
        axes.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set(xlabel=f"true, {unit}", ylabel=f"predicted, {unit}", xlim=(low, high), ylim=(low, high))
        axes.set_aspect("equal")
    correlation = float(np.corrcoef(true, predicted)[0, 1])
    return Figure(
        "Predicted against true",
        path,
        f"Scatter of predictions against true values in {unit}. The points lie along the diagonal, "
        f"with a correlation of {correlation:.2f}.",
        f"{len(shown):,} of {len(true):,} rows that no host trained on, as the serverless endpoint predicts. "
        f"Root mean square error in {unit}: {rmse:.3f}. The dashed line shows exact predictions.",
    )


def importance(path: Path, gains: dict[str, float]) -> Figure:
    """Draw the most important features, by share of the total gain."""
    total = sum(gains.values()) or 1.0
    top = sorted(((gain / total, name) for name, gain in gains.items()), reverse=True)[:12]
    with picture(path, height=3.8) as axes:
        names = [name for _, name in reversed(top)]
        bars = axes.barh(names, [share for share, _ in reversed(top)], color=FIRST, height=0.62)
        axes.bar_label(bars, fmt=lambda value: f"{value:.0%}", padding=3, color=QUIET, fontsize=8)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
    return Figure(
        "Feature importance",
        path,
        "Bars of feature importance. " + ", ".join(f"{name} {share:.0%}" for share, name in top[:5]) + ".",
        "Share of the total gain of all splits: how much each feature reduces the error.",
    )


def learning(path: Path, curve: dict[str, Any], unit: str, scale: float) -> Figure:
    """Draw the RMSE after each round.

    :param curve: `train` and `validation` have the RMSE over the rows of all hosts, each (rounds,); `hosts`
        has a list for each host, with the RMSE over its held-out rows
    """
    styles = [(0, (1, 1.2)), (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), "-"]
    rounds = np.arange(1, len(curve["validation"]) + 1)
    last = {}
    with picture(path, height=3.3) as axes:
        axes.plot(rounds, np.array(curve["train"]) / scale, color=QUIET, label="training rows, all hosts")
        for number, values in enumerate(curve["hosts"]):
            label = f"held-out rows of host {number + 1}"
            shown = np.array(values, dtype=float) / scale
            color = (SECOND, THIRD)[number % 2]
            axes.plot(rounds, shown, color=color, linestyle=styles[number % len(styles)], label=label)
            last[label] = shown[-1]
        whole = np.array(curve["validation"]) / scale
        axes.plot(rounds, whole, color=FIRST, label="held-out rows, all hosts")
        axes.set(xlabel="boosting round", ylabel=f"RMSE, {unit}", yscale="log")
        for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            formatter(lambda value, _: f"{value:g}")
        axes.tick_params(axis="y", which="minor", labelsize=7.5)
        axes.legend()
    ends = ", ".join(f"{label} {value:.3f}" for label, value in last.items())
    return Figure(
        "Learning curve per host",
        path,
        f"Lines of error by boosting round, falling. After {len(rounds)} rounds the held-out rows of all "
        f"hosts are at {whole[-1]:.3f}; {ends}.",
        f"The hosts build one model and evaluate it together; the best round was {whole.argmin() + 1} of "
        f"{len(rounds)}. Each host's line is the error over the held-out rows in its part.",
    )


def coverage(path: Path, ours: dict[int, float], sample: dict[int, float]) -> Figure:
    """Draw the share of the table's rows that at least one host reads, by the number of hosts."""
    hosts = sorted(set(ours) & set(sample))
    place = np.arange(len(hosts))
    with picture(path) as axes:
        for offset, values, color, label in (
            (-0.19, ours, FIRST, "Groundplan: disjoint parts"),
            (0.19, sample, SECOND, "each host draws a sample"),
        ):
            shares = [values[count] for count in hosts]
            bars = axes.bar(place + offset, shares, width=0.36, color=color, label=label)
            axes.bar_label(bars, fmt=lambda value: f"{value:.0%}", padding=2, color=QUIET, fontsize=8)
        axes.set_xticks(place, [f"{count} hosts" for count in hosts])
        axes.set_xlim(-0.8, len(hosts) - 0.2)
        axes.set_ylim(0, 1.3)
        axes.set_yticks([0, 0.5, 1], ["0", "50%", "100%"])
        axes.grid(axis="x", visible=False)
        axes.legend(ncols=2, loc="upper center")
    return Figure(
        "Rows that reach the model",
        path,
        "Bars of the share of rows that reach a host. "
        + "; ".join(f"{count} hosts: {ours[count]:.0%} against {sample[count]:.0%}" for count in hosts)
        + ".",
        "If each host draws its own sample of 1/n of the table, some rows are drawn twice and others never. "
        "Disjoint parts contain every row once.",
    )


def seeds(path: Path, ours: Estimate, sample: Estimate, ratio: Estimate, unit: str) -> Figure:
    """Draw the RMSE of each seed with our and the published scheme, and the means with their intervals."""
    count = len(ours["values"])
    number = np.arange(1, count + 1)
    with picture(path) as axes:
        for x, a, b in zip(number, ours["values"], sample["values"], strict=True):
            axes.plot([x, x], [a, b], color=QUIET, linewidth=0.8, alpha=0.7, zorder=1)
        for found, color, label, aside in (
            (ours, FIRST, "Groundplan", -0.12),
            (sample, SECOND, "sample scheme", 0.12),
        ):
            axes.scatter(number, found["values"], color=color, s=30, label=label, zorder=3)
            reach = np.array([[found["mean"] - found["low"]], [found["high"] - found["mean"]]])
            axes.errorbar(count + 1.2 + aside, found["mean"], yerr=reach, color=color, fmt="D", markersize=5)
        axes.axvline(count + 0.6, color=GRID, linewidth=0.8)
        axes.set_xticks(np.append(number, count + 1.2), [*map(str, number), "mean"])
        axes.set(xlabel="seed", ylabel=f"RMSE, {unit}")
        axes.grid(axis="x", visible=False)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.18 * (high - low))
        axes.legend(ncols=2, loc="upper left")
    told = f"{ratio['mean']:.3f} (95% interval {ratio['low']:.3f} to {ratio['high']:.3f})"
    return Figure(
        "The same model, by scheme and seed",
        path,
        f"Pairs of points, the test error of {count} seeds: Groundplan's mean is {ours['mean']:.3f}, "
        f"the sample scheme's {sample['mean']:.3f} {unit}, the ratio {told}.",
        f"Both schemes have the same test rows and parameters, and differ in how rows reach the hosts. Seeds "
        f"differ more than schemes do, so the schemes are compared by the ratio within a seed: {told}.",
    )


def memory(path: Path, megabytes: dict[str, float], rows: int) -> Figure:
    """Draw the peak memory of a host that reads its rows, by the method of reading."""
    with picture(path, height=1.9) as axes:
        names = list(megabytes)
        colors = [FIRST, SECOND, THIRD][: len(names)]
        bars = axes.barh(names[::-1], list(megabytes.values())[::-1], color=colors[::-1], height=0.55)
        axes.bar_label(bars, fmt=lambda value: f"{value:,.0f} MB", padding=3, color=QUIET, fontsize=8)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.16)
    told = ", ".join(f"{name} {value:,.0f} MB" for name, value in megabytes.items())
    return Figure(
        "Peak memory of reading the table",
        path,
        f"Bars of peak memory for {rows:,} rows: {told}.",
        f"Peak memory of a process that reads {rows:,} rows into XGBoost, libraries included.",
    )
