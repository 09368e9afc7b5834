"""Recipes: learning rate schedule, label smoothing, augmentation and precision of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

PLAIN, FAST = "plain", "fast"
START = 1 / 25
"""Initial learning rate of the one-cycle schedule, as a fraction of the maximum."""
PEAK = 0.2
"""Fraction of the run at which the one-cycle schedule reaches its maximum."""


@dataclass(frozen=True)
class Recipe:
    rate: Callable[[float], float]
    """Maps progress through the run, from 0 to 1, to a multiplier of `learning_rate`"""
    smoothing: float = 0.0
    """Label smoothing of the training loss; reported losses and selection do not use it"""
    augment: bool = False
    """If true, pictures are augmented even if the hyperparameter `augment` is false"""
    mixed: bool = False
    """If true, GPUs that support bf16 use it even if the hyperparameter `precision` is `fp32`"""


def cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def one_cycle(progress: float) -> float:
    """Return the multiplier of the one-cycle schedule, which rises linearly to 1, then falls linearly to 0.

    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates",
    2018.
    """
    if progress < PEAK:
        return START + (1 - START) * progress / PEAK
    return (1 - progress) / (1 - PEAK)


RECIPES = {
    PLAIN: Recipe(cosine),
    # What two fast recipes for CIFAR-10 have in common: David Page, "How to Train Your ResNet", Myrtle, 2018;
    # Keller Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (airbench).
    FAST: Recipe(one_cycle, smoothing=0.2, augment=True, mixed=True),
}
