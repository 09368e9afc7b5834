"""Answers of labelers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One labeler's answer to one item."""

    item: str
    labeler: str
    choice: int | None
    """Index of the class; None: the labeler is unsure"""


Sure = list[tuple[str, int]]
"""(labeler, choice) of each answer to an item, without unsure answers."""


def by_item(answers: Iterable[Answer], classes: int) -> dict[str, Sure]:
    """Return the answers to each item, sorted by labeler, without unsure answers.

    An item that has only unsure answers gets an empty list. Raises `ValueError` for a choice outside the
    classes, and for two answers of one labeler to one item.
    """
    found: dict[str, Sure] = {}
    seen: set[tuple[str, str]] = set()
    for answer in sorted(answers, key=lambda each: (each.item, each.labeler)):
        if (answer.item, answer.labeler) in seen:
            raise ValueError(f"item {answer.item} has two answers of labeler {answer.labeler}")
        seen.add((answer.item, answer.labeler))
        sure = found.setdefault(answer.item, [])
        if answer.choice is None:
            continue
        if not 0 <= answer.choice < classes:
            raise ValueError(
                f"item {answer.item}: a choice must be from 0 to {classes - 1}, got {answer.choice}"
            )
        sure.append((answer.labeler, answer.choice))
    return found
