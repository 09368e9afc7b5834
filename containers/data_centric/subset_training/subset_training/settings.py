"""The hyperparameters of a training job."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from toolkit.failure import Failure
from toolkit.options import Options, choice, flag, number, option, whole

from . import models
from .reading import Decoding
from .strategies import infobatch
from .strategies.glister import ROUNDS
from .strategies.gradmatch import PENALTY
from .strategies.names import MAKERS, UNBUDGETED, Choices

FRESH, RECORDED = "fresh", "recorded"
MOST_SEEDS = 100
LARGEST_SEED = 2**31 - 1


def _seeds(given: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in given.split(","))
    if len(set(found)) != len(found) or len(found) > MOST_SEEDS:
        raise ValueError
    if not all(0 <= seed <= LARGEST_SEED for seed in found):
        raise ValueError
    return found


@dataclass(frozen=True)
class Settings(Options):
    """Hyperparameters."""

    strategy: str = choice(*MAKERS, default="glister")
    fraction: float = number(0, 1, default=1.0, above=True)
    """Share of the training examples in each epoch; with `fewer_epochs`, share of the epochs"""
    epochs: int = whole(1, 10_000, default=100)
    seeds: tuple[int, ...] = option(
        _seeds, f"up to {MOST_SEEDS} different whole numbers from 0 to {LARGEST_SEED}, with commas", (0,)
    )
    """A run for each, one after the other"""
    model: str = choice(*models.NAMES, default=models.SMALL)

    batch_size: int = whole(1, 65_536, default=64)
    learning_rate: float = number(0, 100, default=0.05, above=True)
    """At the start; it falls to 0 along a cosine"""
    momentum: float = number(0, 0.999, default=0.9)
    weight_decay: float = number(0, 1, default=5e-4)
    augment: bool = flag(default=False)
    """Random crops and mirror images"""
    precision: str = choice("fp32", "bf16", default="fp32")

    interval: int = whole(1, 10_000, default=10)
    """Epochs from one selection by gradients to the next"""
    outputs: str = choice(FRESH, RECORDED, default=FRESH)
    """Gradients of the training set from a forward pass, or from what training itself last computed"""
    validation_sample: int = whole(0, 10_000_000, default=0)
    """Validation examples whose gradients are used for a selection; 0: all"""
    rounds: int = whole(0, 1_000_000, default=ROUNDS)
    """Of GLISTER's greedy selection; 0: one for each example"""
    epsilon: float = number(0, 0.5, default=0.01, above=True)
    """Of stochastic greedy"""
    match_batch: int = whole(1, 65_536, default=64)
    """Examples of a batch that GradMatch-PB matches"""
    penalty: float = number(0, 1e6, default=PENALTY, above=True)
    """Of GradMatch, as a share of the mean square of a gradient"""
    pruned: float = number(0, 0.99, default=infobatch.PRUNED, above=True)
    """Share of the examples below the mean loss that InfoBatch leaves out"""
    annealed: float = number(0, 1, default=infobatch.ANNEALED)
    """Share of the epochs after which InfoBatch leaves out nothing"""

    validation_fraction: float = number(0, 0.5, default=0.1, above=True)
    """Share of the training channel to validate on, where there is no validation channel"""
    side: int = whole(0, 1024, default=0)
    """Pixels of the square that pictures are scaled to; 0: they have one size already"""
    grey: bool = flag(default=False)
    """One channel instead of three"""
    most_unreadable: int = whole(0, 1_000_000, default=0)
    """Unreadable pictures of a channel that are left out before the job fails"""
    checkpoint_every: int = whole(0, 10_000, default=1)
    """Epochs from one checkpoint to the next; 0: none"""
    threads: int = whole(0, 1024, default=0)
    """Of the CPU; 0: all cores"""

    def check(self) -> None:
        """Raise `Failure` where two hyperparameters contradict each other."""
        if self.strategy in UNBUDGETED and self.fraction != 1:
            raise Failure(f"hyperparameter fraction is {self.fraction:g}: strategy {self.strategy} takes 1")

    @property
    def decoding(self) -> Decoding:
        return Decoding(self.side, self.grey, self.most_unreadable)

    @property
    def choices(self) -> Choices:
        return Choices(
            self.interval,
            self.rounds,
            self.epsilon,
            self.match_batch,
            self.penalty,
            self.pruned,
            self.annealed,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
