"""Labeler reliability and spammer detection."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from data_centric.core.answers import Answer
from data_centric.core.consensus import Estimate

CHANCE = 3.0
"""A labeler whose agreement with the other labelers is less than this many standard deviations above
chance is a spammer."""
POWER = 10.0
"""The verdict is `unknown` unless right answers to all of the labeler's items would be at least this many
standard deviations above chance. That is impossible with too few items, or if nearly all items are of one
class."""

Verdict = Literal["reliable", "spammer", "unknown"]
"""Result for a labeler. `unknown`: the labeler gave too few answers to be judged."""


@dataclass(frozen=True)
class Reliability:
    labeler: str
    answers: int
    """Number of answers, without unsure ones"""
    unsure: int
    accuracy: float
    """Estimated accuracy, with classes weighted by their share of all items"""
    above_chance: float
    """Agreement with the other labelers, in standard deviations above the agreement of the same answers in
    random order"""
    verdict: Verdict


def pseudonym(identity: str, key: bytes) -> str:
    """Return a labeler's pseudonym for tables and reports.

    :param key: a secret. A labeler has the same pseudonym in all runs that use the same key
    """
    return "labeler-" + hmac.new(key, identity.encode(), hashlib.sha256).hexdigest()[:12]


def reliability(answers: Iterable[Answer], estimate: Estimate) -> list[Reliability]:
    """Return the reliability of each labeler who gave an answer, sorted by name.

    Each answer is compared with the item's class probabilities, estimated from the other labelers' answers.
    """
    of: dict[str, list[Answer]] = {}
    for answer in answers:
        of.setdefault(answer.labeler, []).append(answer)
    return [_of_one(labeler, of[labeler], estimate) for labeler in sorted(of)]


def _of_one(labeler: str, answers: Sequence[Answer], estimate: Estimate) -> Reliability:
    sure = [(answer.item, answer.choice) for answer in answers if answer.choice is not None]
    unsure = len(answers) - len(sure)
    if not sure:
        return Reliability(labeler, 0, unsure, 0.0, 0.0, "unknown")
    matrix = estimate.matrices[labeler]
    beliefs = [
        _without(estimate.items[item].probabilities, [row[choice] for row in matrix]) for item, choice in sure
    ]
    accuracy = sum(share * matrix[choice][choice] for choice, share in enumerate(estimate.shares))
    above = _above_chance(beliefs, [choice for _, choice in sure])
    verdict: Verdict = "reliable" if above >= CHANCE else "spammer"
    if _above_chance(beliefs, [belief.index(max(belief)) for belief in beliefs]) < POWER:
        verdict = "unknown"
    return Reliability(labeler, len(sure), unsure, accuracy, above, verdict)


def _without(probabilities: Sequence[float], likelihood: Sequence[float]) -> list[float]:
    """Return class probabilities with one answer's likelihood divided out.

    :param likelihood: likelihood of the answer, given each class
    """
    weights = [each / given for each, given in zip(probabilities, likelihood, strict=True)]
    total = sum(weights)
    return [weight / total for weight in weights]


def _above_chance(beliefs: Sequence[Sequence[float]], choices: Sequence[int]) -> float:
    """Return the agreement of choices with class probabilities, in standard deviations above random order.

    Mean and variance over all permutations are exact (W. Hoeffding, "A combinatorial central limit theorem",
    1951).
    """
    size = len(choices)
    if size < 2:
        return 0.0
    share = [choices.count(choice) / size for choice in range(len(beliefs[0]))]
    mean = [sum(column) / size for column in zip(*beliefs, strict=True)]
    common = sum(a * b for a, b in zip(share, mean, strict=True))
    variance = 0.0
    for belief in beliefs:
        own = sum(a * b for a, b in zip(share, belief, strict=True))
        variance += sum(
            part * (each - own - usual + common) ** 2
            for part, each, usual in zip(share, belief, mean, strict=True)
        )
    variance *= size / (size - 1)
    agreed = sum(belief[choice] for belief, choice in zip(beliefs, choices, strict=True))
    return (agreed - size * common) / math.sqrt(variance) if variance > 1e-9 else 0.0
