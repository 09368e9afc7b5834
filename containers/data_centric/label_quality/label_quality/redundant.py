"""Redundant examples: duplicates, and examples that the model predicts with the highest probability.

Four orders of removal were compared: random, most easily predicted first, farthest-first in each class, and
by the sum of an example's ranks in the latter two orders. Removing the most easily predicted examples first
costs the least accuracy. benchmarks/README.md compares this order with random removal.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def find(labels: Any, probabilities: Any, groups: Any, suspected: Any, share: float) -> Any:
    """Return whether each example is redundant, as [n] of bool.

    Of duplicates with the same label, all but one are redundant. At least one example of each class is not
    redundant. Suspected examples are never redundant, because they must be reviewed first.

    :param groups: [n]; duplicates have the same number
    :param suspected: [n] of bool
    :param share: redundant share of each class, duplicates included, from 0 to below 1
    """
    found = np.zeros(len(labels), bool)
    own = probabilities[np.arange(len(labels)), labels]
    for label in np.unique(labels):
        members = np.flatnonzero((labels == label) & ~suspected)
        first = np.unique(groups[members], return_index=True)[1]
        copies = np.delete(members, first)
        found[copies] = True
        most = int(share * (labels == label).sum()) - len(copies)
        easiest = members[first][np.argsort(-own[members[first]], kind="stable")]
        found[easiest[: max(min(most, len(easiest) - 1), 0)]] = True
    return found
