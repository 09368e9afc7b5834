"""A model's predictions. In a run, labelers label the items whose prediction has a low confidence, and a
random sample of the other items.

Labelers do not see the predictions, which would bias them and hide some of the model's errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from data_centric.core import manifests
from data_centric.core.manifests import Entry, Label, check_attribute
from data_centric.core.runs import check_share, check_whole

Z_95 = NormalDist().inv_cdf(0.975)
"""Standard errors on each side of a 95 % interval."""


@dataclass(frozen=True)
class Predictions:
    """Which of the manifest's predictions are selected. Raises `ValueError` that names an invalid field."""

    attribute: str
    """Attribute of the predicted class in the manifest"""
    at_most_confidence: float
    """Predictions of at most this confidence are labeled"""
    most_items: int | None = None
    """Maximum number of these predictions, the least confident first; None: all"""
    sample_share: float = 0
    """Share of the other predictions that is labeled too, chosen at random"""
    seed: int = 0
    """Seed of the random choice"""

    def __post_init__(self) -> None:
        if not isinstance(self.attribute, str):
            raise ValueError(f"attribute must be a text, got {self.attribute!r}")
        check_attribute(self.attribute, "attribute")
        check_share("at_most_confidence", self.at_most_confidence)
        if self.most_items is not None:
            check_whole("most_items", self.most_items, 1, None)
        check_share("sample_share", self.sample_share)
        check_whole("seed", self.seed, 0, None)


@dataclass(frozen=True)
class Selection:
    """The predictions that a run labels."""

    entries: Sequence[Entry]
    """Selected entries in the manifest's order"""
    predicted: Mapping[str, int]
    """Predicted class of each selected item"""
    sampled: frozenset[str]
    """Selected items that were chosen at random. The other selected items have a low confidence"""
    unsure: int
    """Number of the manifest's predictions that have a low confidence"""
    confident: int
    """Number of the manifest's other predictions"""


@dataclass(frozen=True)
class Group:
    """Wrong predictions in one group of items. A prediction is wrong if the label differs from it."""

    predictions: int
    """Number of the group's predictions in the manifest"""
    selected: int
    """Number of these that were selected for the run"""
    labeled: int
    """Number of these that got a label"""
    wrong: int
    wrong_share: float | None
    """Share of wrong predictions among the labeled ones; None: nothing is labeled"""


@dataclass(frozen=True)
class Share:
    """An estimated share with its 95 % interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class PredictionsReport:
    low_confidence: Group
    random: Group
    random_interval: tuple[float, float] | None
    """Wilson's 95 % interval of the share of wrong predictions among all confident predictions"""
    error_rate: Share | None
    """Share of wrong predictions among all predictions; None: some predictions with a low confidence were not
    selected, or a group of predictions has no labels"""


@dataclass(frozen=True, slots=True)
class _Candidate:
    item: str
    line: int
    choice: int
    confidence: float


def select(
    body: bytes, asked: Predictions, classes: Sequence[str], check: Callable[[Entry], None]
) -> Selection:
    """Return the selected predictions. The selection does not depend on the order of the manifest's lines.

    Raises `ManifestError` with the numbers of all lines that have no valid prediction.

    :param body: the manifest
    :param check: raises `ValueError` for an entry that labelers must not see
    """

    def candidate(entry: Entry) -> _Candidate:
        check(entry)
        choice = manifests.choice_of(entry, asked.attribute, classes)
        confidence = manifests.confidence_of(entry, asked.attribute)
        return _Candidate(entry.item, entry.line, choice, confidence)

    def shuffled(each: _Candidate) -> bytes:
        return hashlib.sha256(f"{asked.seed}\n{each.item}".encode()).digest()

    found = manifests.each(body, candidate)
    unsure = [each for each in found if each.confidence <= asked.at_most_confidence]
    confident = [each for each in found if each.confidence > asked.at_most_confidence]
    count = max(1, round(asked.sample_share * len(confident))) if asked.sample_share else 0
    sample = sorted(confident, key=shuffled)[:count]
    low = sorted(unsure, key=lambda each: (each.confidence, each.item))[: asked.most_items]
    return Selection(
        manifests.parse(body, {each.line for each in (*low, *sample)}),
        {each.item: each.choice for each in (*low, *sample)},
        frozenset(each.item for each in sample),
        len(unsure),
        len(confident),
    )


def errors(selection: Selection, labels: Mapping[str, Label]) -> dict[str, Label]:
    """Return the labels that differ from the prediction, by item."""
    return {item: label for item, label in labels.items() if label.choice != selection.predicted[item]}


def report(selection: Selection, labels: Mapping[str, Label]) -> PredictionsReport:
    """Return the number of wrong predictions in each group, and the model's error rate."""
    low = _group(selection, labels, selection.unsure, selection.predicted.keys() - selection.sampled)
    random = _group(selection, labels, selection.confident, selection.sampled)
    interval = wilson(random.wrong, random.labeled) if random.labeled else None
    return PredictionsReport(low, random, interval, _error_rate(low, random, interval))


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was observed as `count` of `total`.

    https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval#Wilson_score_interval
    """
    share, square = count / total, Z_95**2 / total
    middle = (share + square / 2) / (1 + square)
    half = Z_95 / (1 + square) * (share * (1 - share) / total + square / 4 / total) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def _group(
    selection: Selection, labels: Mapping[str, Label], predictions: int, items: Collection[str]
) -> Group:
    labeled = [item for item in items if item in labels]
    wrong = sum(labels[item].choice != selection.predicted[item] for item in labeled)
    return Group(predictions, len(items), len(labeled), wrong, wrong / len(labeled) if labeled else None)


def _error_rate(low: Group, random: Group, interval: tuple[float, float] | None) -> Share | None:
    """Return the mean of the groups' shares of wrong predictions, weighted by the number of predictions.

    None if not all predictions with a low confidence were selected, or if a group has no labels.

    :param low: predictions with a low confidence
    :param interval: 95 % interval of the share of wrong predictions in `random`
    """
    if low.selected < low.predictions or any(
        group.predictions and not group.labeled for group in (low, random)
    ):
        return None
    total, wrong = low.predictions + random.predictions, low.predictions * (low.wrong_share or 0)
    ends = (random.wrong_share or 0, *(interval or (0, 0)))
    share, least, most = ((wrong + random.predictions * each) / total for each in ends)
    return Share(share, least, most)
