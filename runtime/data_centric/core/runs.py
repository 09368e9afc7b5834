"""A labeling run: settings and cost estimate."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from data_centric.core.manifests import check_attribute

MOST_LABELERS = 9
"""Maximum number of labels for one item: Ground Truth's limit."""
MOST_CLASSES = 50
MOST_INSTRUCTIONS = 20_000
"""Maximum length of the instructions in characters."""
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
"""Pattern of `LabelingJobName` in the SageMaker API."""
Kind = Literal["label", "review"]
"""`review`: labelers check a given label against a suggested one."""


@dataclass(frozen=True)
class RunSettings:
    """Settings of a labeling run. Raises `ValueError` that names an invalid setting."""

    name: str
    """Name of the run; `job-name` in the manifest"""
    attribute: str
    """Label attribute in the manifest"""
    classes: tuple[str, ...]
    labels: int
    """Number of labels for each item, each by a different labeler"""
    most_labels: int
    """Maximum number of labels for an item on which labelers disagree"""
    extra_labels: int
    """Maximum number of labels in the whole run in addition to the `labels` of each item"""
    least_confidence: float
    """Items with a lower confidence get extra labels"""
    lease_seconds: int
    """Duration of a lease on a task. Other labelers may get the task afterwards"""
    gold_every: int
    """One task in `gold_every` is a gold question; 0: none"""
    gold_least: int
    """Minimum number of answered gold questions before a labeler may be blocked"""
    gold_share: float
    """A labeler with a lower share of right answers to gold questions is blocked"""
    kind: Kind = "label"
    instructions: str = ""
    group: str = ""
    """Group of users who may label; empty: all users"""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                "name must have 1 to 63 letters, digits and hyphens, and not begin or end with a hyphen,"
                f" got {self.name!r}"
            )
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        for field in ("instructions", "group"):
            if not isinstance(getattr(self, field), str):
                raise ValueError(f"{field} must be a text, got {getattr(self, field)!r}")
        if len(self.instructions) > MOST_INSTRUCTIONS:
            raise ValueError(
                f"instructions must have at most {MOST_INSTRUCTIONS} characters, got {len(self.instructions)}"
            )
        check_attribute(self.attribute)
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes) or not all(self.classes):
            raise ValueError(
                f"classes must be two or more different names, got {', '.join(self.classes) or 'none'}"
            )
        if len(self.classes) > MOST_CLASSES:
            raise ValueError(f"classes must be at most {MOST_CLASSES} names, got {len(self.classes)}")
        check_whole("labels", self.labels, 1, MOST_LABELERS)
        check_whole("most_labels", self.most_labels, self.labels, MOST_LABELERS)
        check_whole("extra_labels", self.extra_labels, 0, None)
        check_share("least_confidence", self.least_confidence)
        check_whole("lease_seconds", self.lease_seconds, 30, None)
        if self.gold_every:
            check_whole("gold_every", self.gold_every, 2, None)
        check_whole("gold_least", self.gold_least, 1, None)
        check_share("gold_share", self.gold_share)

    def digest(self, items: Iterable[str], gold: Iterable[tuple[str, int]]) -> str:
        """Return an id of the settings, items and gold questions.

        The order of the items and of the gold questions does not change the id.
        """
        text = json.dumps([asdict(self), sorted(items), sorted(gold)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> RunSettings:
        values = json.loads(text)
        return cls(**values | {"classes": tuple(values["classes"])})


@dataclass(frozen=True)
class Rates:
    """Rates for the cost of an answer."""

    seconds: float
    """Seconds that a labeler needs for one answer"""
    wage: float
    """Dollars per hour"""
    requests: float
    """Dollars for the AWS requests of one answer"""


@dataclass(frozen=True)
class Cost:
    items: int
    answers: int
    """Number of answers, gold questions included"""
    hours: float
    wages: float
    """$"""
    requests: float
    """$"""

    @property
    def total(self) -> float:
        return self.wages + self.requests


def cost(run: RunSettings, items: int, rates: Rates) -> tuple[Cost, Cost]:
    """Return the cost of labeling the items without extra labels, and the cost with all extra labels."""
    for name, value in asdict(rates).items():
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} must be a finite number from 0, got {value}")
    labels = items * run.labels
    extra = min(run.extra_labels, items * (run.most_labels - run.labels))
    least, most = (_cost(run, items, count, rates) for count in (labels, labels + extra))
    return least, most


def _cost(run: RunSettings, items: int, labels: int, rates: Rates) -> Cost:
    gold = math.ceil(labels / (run.gold_every - 1)) if run.gold_every else 0
    answers = labels + gold
    hours = answers * rates.seconds / 3600
    return Cost(items, answers, hours, hours * rates.wage, answers * rates.requests)


def check_whole(name: str, value: int, least: int, most: int | None) -> None:
    """Raise `ValueError` unless the value is a whole number from `least` to `most` (None: no maximum)."""
    if type(value) is not int or value < least or (most is not None and value > most):
        allowed = f"from {least} to {most}" if most is not None else f"from {least}"
        raise ValueError(f"{name} must be a whole number {allowed}, got {value}")


def check_share(name: str, value: float) -> None:
    """Raise `ValueError` unless the value is a number from 0 to 1."""
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, got {value}")
