"""Scenarios: how users work with each architecture after its deployment, locally or on AWS.

A scenario is a package with `METRICS`, the figures that it measures, and `run(stack, out, progress)`. It
reads the stack's outputs and calls AWS with boto3, whose configured endpoint determines where it runs. If
the stack needs resources before its deployment, `prepare(progress)` creates them and returns the settings
that refer to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Progress = Callable[[str], None]
"""Called with a line of text for each progress message."""
MEASURED = "metrics.json"
"""The file with the metrics that were measured so far."""


class ScenarioError(Exception):
    """The architecture failed a check of its scenario. The message describes the failure in one sentence."""


@dataclass(frozen=True)
class Metric:
    """A figure that a scenario measures.

    `better` is "higher" or "lower", or "" for a figure that is only reported. `bound` is the worst value that
    passes.
    """

    name: str
    meaning: str
    unit: str = ""
    better: str = ""
    bound: float | None = None

    def __post_init__(self) -> None:
        if not self.meaning.strip():
            raise ValueError(f"the metric {self.name!r} must have a meaning")
        if self.better not in ("", "higher", "lower"):
            raise ValueError(
                f"the metric {self.name!r}: better must be 'higher', 'lower' or '', got {self.better!r}"
            )
        if self.bound is not None and not self.better:
            raise ValueError(f"the metric {self.name!r} has a bound, so better must be 'higher' or 'lower'")

    def reached(self, value: float) -> bool:
        """Return whether `value` is within the bound; true for all values, even NaN, if there is no bound."""
        if self.bound is None:
            return True
        return value >= self.bound if self.better == "higher" else value <= self.bound


@dataclass(frozen=True)
class Figure:
    """A picture in the report: an SVG, PNG or WebP file with an alternative text.

    A PNG or WebP file can have a variant for the dark scheme, `dark`. An SVG's colours follow the page.
    """

    title: str
    path: Path
    alt: str
    caption: str
    dark: Path | None = None


@dataclass(frozen=True)
class Story:
    """A check of the deployed architecture, and its result."""

    title: str
    tried: str
    outcome: str


@dataclass(frozen=True)
class Report:
    """Content of the report about one architecture besides its metrics.

    `facts` are short labelled values, such as the data's source and licence. `path` are the steps that the
    architecture ran, in order. `notes` are sentences about missing figures.
    """

    facts: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScenarioResult:
    """Results of a run. `metrics` has values by name; `declared` has the meanings, and the bounds of this
    run."""

    metrics: dict[str, float]
    declared: tuple[Metric, ...]
    artifacts: list[Path]
    report: Report

    def __post_init__(self) -> None:
        unknown = sorted(set(self.metrics) - {metric.name for metric in self.declared})
        if unknown:
            raise ValueError(f"metrics that are not declared: {', '.join(unknown)}")

    def missed(self) -> list[str]:
        """Return one line for each metric that did not reach its bound.

        An estimate with an interval, `NAME_low` to `NAME_high`, misses its bound only if the whole interval
        does, so that random deviations do not count as failures.
        """
        lines = []
        for metric in self.declared:
            if metric.name in self.metrics:
                end = "high" if metric.better == "higher" else "low"
                value = self.metrics[metric.name]
                if not metric.reached(self.metrics.get(f"{metric.name}_{end}", value)):
                    wanted = "at least" if metric.better == "higher" else "at most"
                    lines.append(f"{metric.name} must be {wanted} {metric.bound:g}, got {value:.4g}")
        return lines


def keep(out: Path, metrics: dict[str, float]) -> dict[str, float]:
    """Write metrics to a file in `out`, and return them. They are reported even if the scenario fails."""
    numbers = {name: float(value) for name, value in metrics.items()}
    (out / MEASURED).write_text(json.dumps(numbers, indent=1))
    return metrics


def kept(out: Path) -> dict[str, float]:
    """Return the metrics that were written to `out`; empty if there are none."""
    path = out / MEASURED
    return json.loads(path.read_text()) if path.exists() else {}
