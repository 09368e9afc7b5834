"""Simulated labelers: most with an individual accuracy, some spammers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from data_centric.core.answers import Answer

Labeler = Callable[[int], int]
"""Function from an item's true class to the labeler's answer."""


@dataclass
class Crowd:
    truth: Mapping[str, int]
    labelers: Mapping[str, Labeler]
    spammers: Sequence[str]
    accuracy: Mapping[str, float]
    """Accuracies of the labelers who are not spammers"""
    draw: random.Random

    def answers(self, each: int) -> list[Answer]:
        """Return the answers of `each` labelers to every item; these labelers are drawn at random for each
        item."""
        names = sorted(self.labelers)
        return [
            Answer(item, name, self.labelers[name](true))
            for item, true in self.truth.items()
            for name in self.draw.sample(names, each)
        ]

    def right(self, choices: Mapping[str, int]) -> float:
        """Return the accuracy of the choices in percent."""
        return 100 * sum(choices.get(item) == true for item, true in self.truth.items()) / len(self.truth)


def crowd(
    seed: int,
    items: int = 1797,
    classes: int = 10,
    size: int = 20,
    spammers: int = 2,
    confused: tuple[int, int] | None = None,
) -> Crowd:
    """Return labelers with accuracies from 50 to 90 %, and spammers.

    :param confused: two classes; every labeler who is not a spammer mistakes one for the other in a third of
    the items of these classes
    """
    draw = random.Random(seed)
    truth = {f"item-{number:05}": draw.randrange(classes) for number in range(items)}
    names = [f"labeler-{number:02}" for number in range(size)]
    accuracy = {name: draw.uniform(0.5, 0.9) for name in names[spammers:]}

    def looking(name: str) -> Labeler:
        def answer(true: int) -> int:
            if confused and true in confused and draw.random() < 1 / 3:
                return sum(confused) - true
            if draw.random() < accuracy[name]:
                return true
            return draw.choice([each for each in range(classes) if each != true])

        return answer

    def spamming(number: int) -> Labeler:
        """Return a spammer. Every second spammer always gives the same answer; the other spammers answer at
        random."""
        return (lambda _: draw.randrange(classes)) if number % 2 == 0 else (lambda _: number % classes)

    labelers = {name: spamming(number) for number, name in enumerate(names[:spammers])}
    labelers |= {name: looking(name) for name in names[spammers:]}
    return Crowd(truth, labelers, names[:spammers], accuracy, draw)
