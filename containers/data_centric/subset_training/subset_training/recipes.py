"""Recipes: what belongs to a training run beside the model and the numbers of its hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

PLAIN, FAST = "plain", "fast"
START = 1 / 25
"""First learning rate of one-cycle, as a share of the highest."""
PEAK = 0.2
"""Share of a run after which one-cycle has its highest learning rate."""


@dataclass(frozen=True)
class Recipe:
    rate: Callable[[float], float]
    """Return the factor of the learning rate at a point of the run, from 0 to 1"""
    smoothing: float = 0.0
    """Label smoothing of the training loss. Reported losses and selections are without it"""
    augment: bool = False
    """Augment pictures whatever `augment` says"""
    mixed: bool = False
    """Use bf16 on GPUs that have it, whatever `precision` says"""


def cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def one_cycle(progress: float) -> float:
    """Rise to 1, then fall to 0, linearly.

    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates",
    2018.
    """
    if progress < PEAK:
        return START + (1 - START) * progress / PEAK
    return (1 - progress) / (1 - PEAK)


RECIPES = {
    PLAIN: Recipe(cosine),
    # The parts that the fast recipes for CIFAR-10 have in common: David Page, "How to Train Your ResNet",
    # Myrtle, 2018; Keller Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (airbench).
    FAST: Recipe(one_cycle, smoothing=0.2, augment=True, mixed=True),
}
