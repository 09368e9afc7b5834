"""The outcome of an architecture in the demonstration, and the format of its figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from architectures import Architecture
from scenarios import Metric, Report

DEPLOY = Metric("seconds_deploy", "cdk deploy of the whole stack, its image build included", "s", "lower")


@dataclass
class Outcome:
    """The result of deploying one architecture and running its scenario. `reason` says why it failed, if it
    did."""

    architecture: Architecture
    stack: str
    status: str = "failed"
    seconds: float = 0.0
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    declared: tuple[Metric, ...] = (DEPLOY,)
    artifacts: list[Path] = field(default_factory=list)
    resources: dict[str, int] = field(default_factory=dict)
    report: Report = field(default_factory=Report)

    @property
    def figures(self) -> list[tuple[Metric, float]]:
        """Return the measured metrics with their values, in the order of declaration."""
        return [
            (metric, self.metrics[metric.name]) for metric in self.declared if metric.name in self.metrics
        ]


def number(value: float) -> str:
    """Return a number as text: whole numbers without decimals, others with about four digits."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def goal(metric: Metric) -> str:
    """Return the metric's bound, such as `≤ 0.98`, or an empty string if it has none."""
    if metric.bound is None:
        return ""
    return f"{'≥' if metric.better == 'higher' else '≤'} {metric.bound:g}"


def shown(path: Path) -> str:
    """Return a path as text; a path inside the working directory is relative to it."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
