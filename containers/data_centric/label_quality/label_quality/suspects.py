"""Suspects: probable label errors, uncertain labels, conflicting duplicates and outliers, with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from cleanlab.filter import find_label_issues

from .similar import Similar

Kind = Literal["label", "consensus", "duplicate", "outlier"]
"""`label`: a probable error; `consensus`: the consensus of labelers and model has a low confidence;
`duplicate`: duplicates of the example have another label; `outlier`: dissimilar to all other examples"""
KINDS: tuple[Kind, ...] = get_args(Kind)
SHOWN = 6
"""Maximum number of neighbours shown with a suspect"""


@dataclass(frozen=True)
class Suspect:
    index: int
    kinds: tuple[Kind, ...]
    given: int
    suggested: int
    probability_given: float
    probability_suggested: float
    reason: str
    neighbours: tuple[int, ...]
    """Indices of the most similar examples, most similar first"""


@dataclass(frozen=True)
class Given:
    """Labels, probabilities and answers from which suspects are found."""

    labels: Any
    """[n]"""
    probabilities: Any
    """[n, K], out-of-fold class probabilities after calibration"""
    similar: Similar
    names: Sequence[str]
    """Names of the K classes"""
    votes: Any
    """[n, K], number of labelers' answers for each class"""
    confidence: Any
    """[n], confidence of the consensus; NaN for items without answers"""


def label_errors(labels: Any, probabilities: Any) -> Any:
    """Return whether each label is a probable error, as [n] of bool.

    Confident learning: the number of errors of each class is estimated from the joint distribution of given
    and true labels, and the labels with the lowest probabilities are pruned (C. Northcutt, L. Jiang and
    I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 2021).
    """
    return find_label_issues(labels, probabilities, filter_by="prune_by_class", n_jobs=1)


def find(given: Given, least_confidence: float, outlier_distance: float) -> list[Suspect]:
    """Return the suspects, least probable labels first, and suspects that are only outliers last.

    The suggested class is the model's prediction. If that is the current label, the suggested class is the
    most frequent label of conflicting duplicates or, if there are none, the class with the most votes among
    the other classes. For a suspect that is only an outlier, the suggestion may be the current label.
    """
    conflicts = _conflicts(given)
    masks: dict[Kind, Any] = {
        "label": label_errors(given.labels, given.probabilities),
        "consensus": given.confidence < least_confidence,
        "duplicate": np.isin(np.arange(len(given.labels)), [*conflicts]),
        "outlier": given.similar.outlying >= outlier_distance,
    }
    found = []
    for index in map(int, np.flatnonzero(np.any([*masks.values()], 0))):
        kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if masks[kind][index])
        suggested = int(given.probabilities[index].argmax())
        if suggested == given.labels[index] and kinds != ("outlier",):
            suggested = conflicts[index] if index in conflicts else _rival(given, index)
        found.append(_suspect(given, index, kinds, suggested))
    return sorted(found, key=lambda each: (each.kinds == ("outlier",), each.probability_given, each.index))


def _rival(given: Given, index: int) -> int:
    """Of the classes other than the label, return the one with the most votes; the model breaks ties."""
    support = given.votes[index] + given.probabilities[index]
    support[given.labels[index]] = -1
    return int(support.argmax())


def _conflicts(given: Given) -> dict[int, int]:
    """For each example whose duplicates have another label more often than its own, return that label."""
    groups, labels = given.similar.groups, given.labels
    several = np.flatnonzero(np.bincount(groups)[groups] > 1)
    found: dict[int, int] = {}
    for group in np.unique(groups[several]):
        members = several[groups[several] == group]
        counts = np.bincount(labels[members], minlength=len(given.names))
        for index in members:
            others = counts - (np.arange(len(counts)) == labels[index])
            leading = np.where(others == others.max(), given.probabilities[index], -1.0).argmax()
            if leading != labels[index] and others[leading] > others[labels[index]]:
                found[int(index)] = int(leading)
    return found


def _suspect(given: Given, index: int, kinds: tuple[Kind, ...], suggested: int) -> Suspect:
    own, probabilities = int(given.labels[index]), given.probabilities[index]
    neighbours = given.similar.neighbours[index]
    said = [_model(given, index, suggested), _neighbours(given, index, suggested)]
    if given.votes[index].any():
        said.append(_votes(given, index))
        if "consensus" in kinds:
            said.append(f"The confidence of the consensus is {given.confidence[index]:.2f}.")
    if "duplicate" in kinds:
        others = (given.similar.groups == given.similar.groups[index]) & (given.labels != own)
        equal = (given.similar.exact[others] == given.similar.exact[index]).any()
        said.append(f"It is {'' if equal else 'nearly '}equal to an example with another label.")
    if "outlier" in kinds:
        said.append(
            f"Its distance to similar examples is {given.similar.outlying[index]:.1f} times the median."
        )
    return Suspect(
        index,
        kinds,
        own,
        suggested,
        float(probabilities[own]),
        float(probabilities[suggested]),
        " ".join(said),
        tuple(int(each) for each in neighbours[:SHOWN]),
    )


def _model(given: Given, index: int, suggested: int) -> str:
    own, probabilities = given.labels[index], given.probabilities[index]
    if suggested == own:
        return f"The model gives {given.names[own]} a probability of {probabilities[own]:.2f}."
    return (
        f"The model gives {given.names[suggested]} a probability of {probabilities[suggested]:.2f} and"
        f" {given.names[own]} {probabilities[own]:.2f}."
    )


def _neighbours(given: Given, index: int, suggested: int) -> str:
    own, labels = given.labels[index], given.labels[given.similar.neighbours[index]]
    counts = [
        f"{(labels == each).sum()} {given.names[each]}" for each in dict.fromkeys((suggested, int(own)))
    ]
    return f"Labels of the {len(labels)} most similar examples: {', '.join(counts)}."


def _votes(given: Given, index: int) -> str:
    votes = given.votes[index]
    order = sorted(map(int, np.flatnonzero(votes)), key=lambda each: -votes[each])
    return f"Labelers: {', '.join(f'{votes[each]} {given.names[each]}' for each in order)}."
