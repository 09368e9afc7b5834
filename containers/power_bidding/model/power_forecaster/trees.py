"""Gradient-boosted trees in NumPy, so that the endpoint starts without LightGBM and SciPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .history import Doubles, Whole

CATEGORICAL, DEFAULT_LEFT = 1, 2
"""Bits of LightGBM's `decision_type`; the two next higher bits encode how missing values are treated."""
MISSING_NAN = 2
FIELDS = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value")


class TreesError(ValueError):
    """The text is not a LightGBM model, or is of a kind that this module does not support."""


@dataclass(frozen=True)
class Trees:
    """N trees of at most S splits.

    In `left` and `right`, a number of 0 or more is the index of a split; a negative number k stands for the
    leaf with the index ~k.
    """

    feature: Whole
    """[N, S]"""
    threshold: Doubles
    """[N, S] rows with at most this value go left"""
    missing_left: np.ndarray[Any, np.dtype[np.bool_]]
    """[N, S] whether a missing value goes left"""
    left: Whole
    """[N, S]"""
    right: Whole
    """[N, S]"""
    leaf: Doubles
    """[N, S + 1] values"""

    def __call__(self, rows: Doubles) -> Doubles:
        """Return the sums of the trees' values, [m], for rows [m, F]."""
        each = np.arange(len(self.leaf))
        split = np.zeros((len(rows), len(each)), np.int64)
        at = np.arange(len(rows))[:, None]
        while (split >= 0).any():
            here = np.maximum(split, 0)
            values = rows[at, self.feature[each, here]]
            with np.errstate(invalid="ignore"):
                to_left = values <= self.threshold[each, here]
            to_left = np.where(np.isnan(values), self.missing_left[each, here], to_left)
            child = np.where(to_left, self.left[each, here], self.right[each, here])
            split = np.where(split >= 0, child, split)
        return self.leaf[each, ~split].sum(1)

    @staticmethod
    def read(text: str) -> Trees:
        """Read LightGBM's text format. Raises `TreesError`."""
        found = [_tree(part) for part in text.partition("\nend of trees")[0].split("\nTree=")[1:]]
        if not found:
            raise TreesError("the text must be a LightGBM model with at least one tree")
        splits = max(len(tree["threshold"]) for tree in found)
        width = {name: splits + (name == "leaf_value") for name in FIELDS}
        table = {
            name: np.stack([np.pad(tree[name], (0, width[name] - len(tree[name]))) for tree in found])
            for name in FIELDS
        }
        kinds = table["decision_type"].astype(np.int64)
        if (kinds & CATEGORICAL).any():
            raise TreesError("categorical splits are not supported")
        # if a feature had no missing value in training, LightGBM treats a missing value as 0
        as_number = kinds >> 2 != MISSING_NAN
        missing_left = np.where(as_number, table["threshold"] >= 0, (kinds & DEFAULT_LEFT) > 0)
        whole = {
            name: table[name].astype(np.int64) for name in ("split_feature", "left_child", "right_child")
        }
        return Trees(
            whole["split_feature"],
            table["threshold"],
            missing_left,
            whole["left_child"],
            whole["right_child"],
            table["leaf_value"],
        )


def _tree(part: str) -> dict[str, Doubles]:
    lines = dict(line.split("=", 1) for line in part.splitlines() if "=" in line)
    try:
        tree = {name: np.array(lines.get(name, "").split(), np.float64) for name in FIELDS}
    except ValueError:
        raise TreesError("the fields of a tree must be numbers") from None
    splits = len(tree["threshold"])
    if any(len(tree[name]) != splits + (name == "leaf_value") for name in FIELDS):
        raise TreesError(f"a tree of {splits} splits must have {splits + 1} leaves")
    if splits == 0:  # a single leaf: represented by a split with this leaf on both sides
        tree |= dict.fromkeys(("split_feature", "threshold", "decision_type"), np.zeros(1))
        tree |= {
            "left_child": np.full(1, -1.0),
            "right_child": np.full(1, -1.0),
            "leaf_value": np.repeat(tree["leaf_value"], 2),
        }
    return tree
