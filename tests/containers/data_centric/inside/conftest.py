"""The tests in this folder run with the packages of the training image: see `../test_inside.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from subset_training.gradients import Outputs
from subset_training.selection import State

MakeState = Callable[..., State]
CLASSES, WIDTH = 3, 4


def outputs(count: int, seed: int) -> Outputs:
    """Outputs of an untrained last layer for random features; every class has at least one example."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)
    layer = torch.randn(CLASSES, WIDTH, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    labels[:CLASSES] = torch.arange(CLASSES)
    return Outputs(features @ layer.T, features, labels)


@pytest.fixture
def make_state() -> MakeState:
    """Return a function that makes the input of a selection strategy: by default 12 examples, 3 classes and 7
    validation examples."""

    def make(count: int = 12, seed: int = 0, validation: int = 7, **changed: object) -> State:
        train, held_out = outputs(count, seed), outputs(validation, seed + 1000)
        state = State(
            epoch=0,
            epochs=12,
            seed=seed,
            labels=train.labels,
            classes=CLASSES,
            rate=0.3,
            losses=torch.full((count,), torch.nan),
            train=lambda: train,
            validation=lambda: held_out,
            embeddings=lambda: train.features,
        )
        return replace(state, **changed)  # pyright: ignore[reportArgumentType]

    return make
