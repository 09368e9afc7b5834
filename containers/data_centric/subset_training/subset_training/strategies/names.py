"""Strategies by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..selection import Strategy
from . import infobatch
from .controls import AdaptiveRandom, Full
from .craig import Craig
from .glister import ROUNDS, Glister, Mixture
from .gradmatch import PENALTY, GradMatch, GradMatchBatches
from .held import Held
from .infobatch import InfoBatch
from .milo import Milo

FEWER_EPOCHS = "fewer_epochs"
"""Baseline that trains on all data, but for only a fraction of the epochs. It is not a selection strategy."""


@dataclass(frozen=True)
class Choices:
    """Options of the strategies."""

    interval: int = 10
    """Epochs between gradient-based selections"""
    rounds: int = ROUNDS
    epsilon: float = 0.01
    """Accuracy parameter of stochastic greedy"""
    batch: int = 64
    """Batch size of GradMatch-PB"""
    penalty: float = PENALTY
    pruned: float = infobatch.PRUNED
    annealed: float = infobatch.ANNEALED


def _glister(choices: Choices) -> Strategy:
    return Mixture(Held(Glister(choices.rounds, balanced=True), choices.interval), choices.interval)


def _held(make: Callable[[Choices], Strategy]) -> Callable[[Choices], Strategy]:
    return lambda choices: Held(make(choices), choices.interval)


MAKERS: dict[str, Callable[[Choices], Strategy]] = {
    "full": lambda _: Full(),
    FEWER_EPOCHS: lambda _: Full(),
    "adaptive_random": lambda _: AdaptiveRandom(),
    "glister": _glister,
    "glister_published": _held(lambda choices: Glister(choices.rounds)),
    "glister_stochastic": _held(lambda choices: Glister(choices.rounds, epsilon=choices.epsilon)),
    "craig": _held(lambda _: Craig()),
    "craig_stochastic": _held(lambda choices: Craig(choices.epsilon)),
    "gradmatch": _held(lambda choices: GradMatch(choices.penalty)),
    "gradmatch_pb": _held(lambda choices: GradMatchBatches(choices.batch, choices.penalty)),
    "infobatch": lambda choices: InfoBatch(choices.pruned, choices.annealed),
    "milo": lambda _: Milo(),
}
UNBUDGETED = ("full", "infobatch")
"""Strategies that ignore the budget. With them, the hyperparameter `fraction` must be 1."""


def strategy(name: str, choices: Choices) -> Strategy:
    """Return a new strategy. Raises `KeyError` for an unknown name."""
    return MAKERS[name](choices)


def plan(name: str, fraction: float, epochs: int, count: int) -> tuple[int, int]:
    """Return the number of epochs and of examples per epoch, for `count` training examples."""
    if name == FEWER_EPOCHS:
        return max(1, round(fraction * epochs)), count
    return epochs, max(1, round(fraction * count))
