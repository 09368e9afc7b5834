"""What a person does with each architecture once it is deployed, here or on AWS.

A scenario is a package with `METRICS`, the figures it measures with their meaning, and
`run(stack, out, progress)`. It finds everything it uses in the stack's outputs and speaks to AWS
through boto3, so whoever sets the endpoint decides where it runs. One whose stack needs something that
must be there first has `prepare(progress)`, which makes it and returns the settings that name it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Progress = Callable[[str], None]
"""Told one line at a time what is going on."""


class ScenarioError(Exception):
    """The architecture did not do what it is for; the message says what, in one sentence."""


@dataclass(frozen=True)
class Metric:
    """A figure that a scenario measures.

    `better` is "higher", "lower" or "" for a figure that is only told; `bound` is the worst value
    that is good enough.
    """

    name: str
    meaning: str
    unit: str = ""
    better: str = ""
    bound: float | None = None

    def __post_init__(self) -> None:
        if not self.meaning.strip():
            raise ValueError(f"the metric {self.name!r} has no meaning")
        if self.better not in ("", "higher", "lower"):
            raise ValueError(
                f"the metric {self.name!r}: better is 'higher', 'lower' or '', not {self.better!r}"
            )
        if self.bound is not None and not self.better:
            raise ValueError(
                f"the metric {self.name!r} has a bound, so say whether higher or lower is better"
            )

    def reached(self, value: float) -> bool:
        """Whether `value` is within the bound; NaN never is."""
        if self.bound is None:
            return True
        return value >= self.bound if self.better == "higher" else value <= self.bound


@dataclass(frozen=True)
class Figure:
    """A picture in the report: an SVG, PNG or WebP file, and in words what it shows to whoever cannot see it.

    `dark` is the file for the dark scheme where a PNG or WebP file has one; an SVG's colours follow the page.
    """

    title: str
    path: Path
    alt: str
    caption: str
    dark: Path | None = None


@dataclass(frozen=True)
class Story:
    """Something that was tried on the deployed architecture, and what came of it."""

    title: str
    tried: str
    outcome: str


@dataclass(frozen=True)
class Report:
    """What the report tells about one architecture beyond its figures.

    `facts` are short labelled values (the data's source and licence among them), `path` the steps
    that the architecture took, in order, `notes` sentences about figures that are missing.
    """

    facts: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScenarioResult:
    """`metrics` by name; `declared` says what each means, with the bounds that apply to this run."""

    metrics: dict[str, float]
    declared: tuple[Metric, ...]
    artifacts: list[Path]
    report: Report

    def __post_init__(self) -> None:
        unknown = sorted(set(self.metrics) - {metric.name for metric in self.declared})
        if unknown:
            raise ValueError(f"metrics without a meaning: {', '.join(unknown)}")

    def missed(self) -> list[str]:
        """One line for each figure that did not reach its bound.

        An estimate that has an interval, `NAME_low` to `NAME_high`, is held against it only when the
        whole interval is beyond the bound: what chance may have done is no failure.
        """
        lines = []
        for metric in self.declared:
            if metric.name in self.metrics:
                end = "high" if metric.better == "higher" else "low"
                value = self.metrics[metric.name]
                if not metric.reached(self.metrics.get(f"{metric.name}_{end}", value)):
                    wanted = "at least" if metric.better == "higher" else "at most"
                    lines.append(f"{metric.name} is {value:.4g}, {wanted} {metric.bound:g} was to be reached")
        return lines
