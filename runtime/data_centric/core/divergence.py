"""Where labelers diverge: agreement, confused pairs of classes, and the items they disagree on most."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_centric.core.answers import Answer, Sure, by_item
from data_centric.core.consensus import Estimate
from data_centric.core.labelers import Reliability, reliability

LEAST_CONFUSED = 0.1
"""Share of the answers to the items of two classes, from which the two can be flagged."""
TIMES_USUAL = 3.0
"""How often as much as the other pairs a flagged pair is confused."""
LEAST_SEEN = 5.0
"""Answers to items of two classes, from which a labeler counts as one who has seen them."""


@dataclass(frozen=True)
class Pair:
    """Two classes whose items get each other's label: the instructions may be ambiguous."""

    classes: tuple[str, str]
    rate: float
    """Share of the answers to items of the two classes that name the other one"""
    usual: float
    """Mean rate of the other pairs"""
    labelers: int
    """How many confuse them, at half of the rate or more"""
    seen_by: int
    """How many have seen enough of their items"""


@dataclass(frozen=True)
class ClassCount:
    name: str
    items: int
    confidence: float
    """Mean of its items"""


@dataclass(frozen=True)
class DividedItem:
    source: str
    choice: str
    confidence: float
    votes: Mapping[str, int]
    """By class"""


@dataclass(frozen=True)
class Divergence:
    items: int
    """Items with an answer that counts"""
    unlabeled: int
    """Items with unsure answers only"""
    tied: int
    answers: int
    unsure: int
    agreement: float | None
    """Share of the pairs of answers to one item that agree; None where there are none"""
    alpha: float | None
    """Krippendorff's alpha for nominal data: 1 is full agreement, 0 that of chance"""
    classes: Sequence[ClassCount]
    labelers: Sequence[Reliability]
    ambiguous: Sequence[Pair]
    """The most confused first"""
    divided: Sequence[DividedItem]
    """The least confident first"""


def divergence(
    answers: Iterable[Answer],
    estimate: Estimate,
    classes: Sequence[str],
    sources: Mapping[str, str],
    most: int,
) -> Divergence:
    """Return the report of a run.

    :param sources: of each item
    :param most: divided items in the report
    """
    whole = list(answers)
    seen = by_item(whole, len(classes))
    votes = {item: _votes(sure, len(classes)) for item, sure in seen.items() if sure}
    people = reliability(whole, estimate)
    spammers = {person.labeler for person in people if person.verdict == "spammer"}
    found = estimate.items
    divided = sorted(
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
        divided=[
            DividedItem(
                sources[item],
                classes[found[item].choice],
                found[item].confidence,
                {classes[choice]: count for choice, count in enumerate(votes[item]) if count},
            )
            for item in divided[:most]
        ],
    )


def ambiguous(
    seen: Mapping[str, Sure], estimate: Estimate, classes: Sequence[str], spammers: Iterable[str] = ()
) -> list[Pair]:
    """Return the pairs of classes that most labelers confuse, and far more than other pairs.

    :param spammers: labelers whose answers are left out
    """
    left_out = set(spammers)
    by_labeler: dict[str, list[list[float]]] = {}
    """Of each labeler: by true class and answer, the number of answers"""
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
    """Krippendorff's alpha, over items with two answers or more; None where only one class was answered."""
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
