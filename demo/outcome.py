"""What became of an architecture in the demonstration, and how its figures are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from architectures import Architecture
from scenarios import Metric, Report

DEPLOY = Metric("seconds_deploy", "cdk deploy of the whole stack, its image build included", "s", "lower")


@dataclass
class Outcome:
    """One architecture's run; `reason` says why when it failed."""

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
        """The metrics there are, each with its meaning, in the order they are declared."""
        return [
            (metric, self.metrics[metric.name]) for metric in self.declared if metric.name in self.metrics
        ]


def number(value: float) -> str:
    """A figure as a person reads it: whole numbers whole, others to about four digits."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def goal(metric: Metric) -> str:
    """The bound to reach, such as `≤ 0.98`; nothing where there is none."""
    if metric.bound is None:
        return ""
    return f"{'≥' if metric.better == 'higher' else '≤'} {metric.bound:g}"


def shown(path: Path) -> str:
    """A path relative to the working folder where it is below it."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
