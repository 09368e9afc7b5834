"""The divergence report: labeler agreement, confused class pairs, and the most disputed items."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_centric.core.answers import Answer, Sure, by_item
from data_centric.core.consensus import Estimate
from data_centric.core.labelers import Reliability, reliability

LEAST_CONFUSED = 0.1
"""Minimum confusion rate at which a class pair is flagged."""
TIMES_USUAL = 3.0
"""A flagged pair's confusion rate is at least this multiple of the other pairs' mean rate."""
LEAST_SEEN = 5.0
"""Minimum number of answers to items of a class pair for a labeler to count in that pair."""


@dataclass(frozen=True)
class Pair:
    """Two classes that labelers confuse. The instructions may be ambiguous."""

    classes: tuple[str, str]
    rate: float
    """Confusion rate: the share of answers to items of either class that name the other class"""
    usual: float
    """Mean confusion rate of the other pairs"""
    labelers: int
    """Number of labelers whose confusion rate is at least half of the pair's"""
    seen_by: int
    """Number of labelers who answered enough items of the two classes"""


@dataclass(frozen=True)
class ClassCount:
    name: str
    items: int
    confidence: float
    """Mean confidence of the class's items"""


@dataclass(frozen=True)
class DisputedItem:
    source: str
    choice: str
    confidence: float
    votes: Mapping[str, int]
    """Number of answers, by class"""


@dataclass(frozen=True)
class Divergence:
    items: int
    """Number of items with at least one answer other than unsure"""
    unlabeled: int
    """Number of items that have only unsure answers"""
    tied: int
    answers: int
    unsure: int
    agreement: float | None
    """Share of pairs of answers to the same item that agree; None without such pairs"""
    alpha: float | None
    """Krippendorff's alpha for nominal data: 1 is full agreement, 0 is agreement by chance"""
    classes: Sequence[ClassCount]
    labelers: Sequence[Reliability]
    ambiguous: Sequence[Pair]
    """Most confused first"""
    disputed: Sequence[DisputedItem]
    """Least confident first"""


def divergence(
    answers: Iterable[Answer],
    estimate: Estimate,
    classes: Sequence[str],
    sources: Mapping[str, str],
    most: int,
) -> Divergence:
    """Return the divergence report of a run.

    :param sources: source of each item
    :param most: maximum number of disputed items in the report
    """
    whole = list(answers)
    seen = by_item(whole, len(classes))
    votes = {item: _votes(sure, len(classes)) for item, sure in seen.items() if sure}
    people = reliability(whole, estimate)
    spammers = {person.labeler for person in people if person.verdict == "spammer"}
    found = estimate.items
    disputed = sorted(
        (item for item in found if max(votes[item]) < sum(votes[item])),
        key=lambda item: (found[item].confidence, item),
    )
    return Divergence(
        items=len(found),
        unlabeled=len(seen) - len(found),
        tied=sum(each.tied for each in found.values()),
        answers=len(whole),
        unsure=sum(answer.choice is None for answer in whole),
        agreement=_agreement(votes.values()),
        alpha=_alpha(votes.values()),
        classes=[_class_count(estimate, choice, name) for choice, name in enumerate(classes)],
        labelers=people,
        ambiguous=ambiguous(seen, estimate, classes, spammers),
        disputed=[
            DisputedItem(
                sources[item],
                classes[found[item].choice],
                found[item].confidence,
                {classes[choice]: count for choice, count in enumerate(votes[item]) if count},
            )
            for item in disputed[:most]
        ],
    )


def ambiguous(
    seen: Mapping[str, Sure], estimate: Estimate, classes: Sequence[str], spammers: Iterable[str] = ()
) -> list[Pair]:
    """Return the class pairs that most labelers confuse, and confuse far more often than other pairs.

    :param spammers: labelers whose answers are ignored
    """
    left_out = set(spammers)
    by_labeler: dict[str, list[list[float]]] = {}
    """By labeler, then by (true class, answer): number of answers"""
    for item, consensus in estimate.items.items():
        for labeler, choice in seen[item]:
            if labeler not in left_out:
                counts = by_labeler.setdefault(labeler, [[0.0] * len(classes) for _ in classes])
                for true, probability in enumerate(consensus.probabilities):
                    counts[true][choice] += probability
    pairs = list(itertools.combinations(range(len(classes)), 2))
    rates = {pair: _rate(by_labeler.values(), pair) for pair in pairs}
    flagged: list[Pair] = []
    for pair, rate in rates.items():
        usual = (sum(rates.values()) - rate) / max(len(pairs) - 1, 1)
        have_seen = [counts for counts in by_labeler.values() if _seen([counts], pair) >= LEAST_SEEN]
        confusing = sum(_rate([counts], pair) >= rate / 2 for counts in have_seen)
        common = len(have_seen) > 1 and 2 * confusing >= len(have_seen)
        if common and rate >= max(LEAST_CONFUSED, TIMES_USUAL * usual):
            first, second = pair
            flagged.append(Pair((classes[first], classes[second]), rate, usual, confusing, len(have_seen)))
    return sorted(flagged, key=lambda each: -each.rate)


def _seen(tables: Iterable[Sequence[Sequence[float]]], pair: tuple[int, int]) -> float:
    return sum(sum(counts[true]) for counts in tables for true in pair)


def _rate(tables: Iterable[Sequence[Sequence[float]]], pair: tuple[int, int]) -> float:
    whole = list(tables)
    first, second = pair
    confused = sum(counts[first][second] + counts[second][first] for counts in whole)
    return confused / (_seen(whole, pair) or 1.0)


def _votes(sure: Sure, classes: int) -> list[int]:
    choices = [choice for _, choice in sure]
    return [choices.count(choice) for choice in range(classes)]


def _agreement(votes: Iterable[Sequence[int]]) -> float | None:
    agreed = pairs = 0
    for counts in votes:
        agreed += sum(count * (count - 1) for count in counts)
        pairs += sum(counts) * (sum(counts) - 1)
    return agreed / pairs if pairs else None


def _alpha(votes: Iterable[Sequence[int]]) -> float | None:
    """Return Krippendorff's alpha over items with two or more answers; None if all answers name one class."""
    pairable = [counts for counts in votes if sum(counts) > 1]
    if not pairable:
        return None
    totals = [sum(column) for column in zip(*pairable, strict=True)]
    size = sum(totals)
    observed = sum(
        sum(count * (sum(counts) - count) for count in counts) / (sum(counts) - 1) for counts in pairable
    )
    expected = sum(total * (size - total) for total in totals) / (size - 1)
    return 1 - observed / expected if expected else None


def _class_count(estimate: Estimate, choice: int, name: str) -> ClassCount:
    found = [each.confidence for each in estimate.items.values() if each.choice == choice]
    return ClassCount(name, len(found), sum(found) / len(found) if found else 0.0)
