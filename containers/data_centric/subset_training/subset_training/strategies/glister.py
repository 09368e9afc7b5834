"""GLISTER: the examples whose gradients lower the validation loss most."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..gradients import Outputs, along, total
from ..selection import Selection, State, Stateless, Strategy, allot, best, others, permuted, unweighted
from .controls import AdaptiveRandom

ROUNDS = 15
"""Of the greedy selection, as in the authors' code."""


class Glister(Stateless):
    """GLISTER-ONLINE: Killamsetty et al., "GLISTER: Generalization based Data Subset Selection for
    Efficient and Robust Learning", AAAI 2021.

    The validation loss after one gradient step on the subset is expanded to first order: the gain of an
    example is the product of its gradient with the gradient of the validation loss. Greedily, in rounds:
    each takes the examples of the highest gains, and then updates the validation logits by a step on all
    that were taken. Of the last layer only, for which this update is exact.

    :param rounds: of the greedy selection; 0: one for each example
    :param balanced: take as many of each class as its share of the training set, in every round
    :param epsilon: above 0, stochastic greedy: each round looks at a random sample of n / k * ln(1 / epsilon)
        examples for each that it takes (Mirzasoleiman et al., "Lazier Than Lazy Greedy", AAAI 2015)
    """

    def __init__(self, rounds: int = ROUNDS, balanced: bool = False, epsilon: float = 0.0):
        if balanced and epsilon:
            raise ValueError(
                "a sample must be of all classes together: balanced and epsilon exclude each other"
            )
        self.rounds, self.balanced, self.epsilon = rounds, balanced, epsilon

    def select(self, state: State, k: int) -> Selection:
        train, validation = state.train(), state.validation()
        device = train.labels.device
        groups = train.labels if self.balanced else torch.zeros(len(state), dtype=torch.int64, device=device)
        quotas = allot(torch.bincount(groups).cpu(), k)
        generator = state.generator("stochastic greedy")
        free = torch.ones(len(state), dtype=torch.bool)
        taken: list[Tensor] = []
        now = validation
        rounds = min(self.rounds or k, k)
        for number in range(rounds):
            share = quotas * (number + 1) // rounds - quotas * number // rounds
            if not share.any():
                continue
            gains = along(train, total(now) / len(now))
            allowed = free if not self.epsilon else self._sampled(free, int(share.sum()), k, generator)
            gains = gains.masked_fill(~allowed.to(device), -math.inf)
            picked = best(gains, groups, share.to(device))
            free[picked.cpu()] = False
            taken.append(picked.cpu())
            step = state.rate * total(train.part(picked))
            now = Outputs(now.logits - now.inputs @ step.T, now.features, now.labels)
        return unweighted(torch.cat(taken))

    def _sampled(self, free: Tensor, share: int, k: int, generator: torch.Generator) -> Tensor:
        size = math.ceil(share * len(free) / k * math.log(1 / self.epsilon))
        left = free.nonzero().squeeze(1)
        sampled = torch.zeros_like(free)
        sampled[permuted(left, generator)[: max(size, share)]] = True
        return sampled


class Mixture:
    """Half of the budget random, and half drawn afresh in every epoch from a pool that another strategy
    selects.

    A fixed subset repeats its examples, which costs more accuracy than a good choice of them gains. The
    random half is drawn without replacement over epochs, as in `AdaptiveRandom`.

    :param pool: selects twice the half that is drawn from it
    """

    def __init__(self, pool: Strategy):
        self.pool, self.random = pool, AdaptiveRandom()

    def select(self, state: State, k: int) -> Selection:
        half = k // 2
        indices = self.random.select(state, k - half).indices
        if half:
            generator = state.generator("pool")
            pool = self.pool.select(state, min(2 * half, len(state))).indices
            drawn = permuted(pool[~torch.isin(pool, indices)], generator)[:half]
            indices = torch.cat([indices, drawn])
            # the random half may have taken more than half of the pool
            indices = torch.cat(
                [indices, permuted(others(len(state), indices), generator)[: k - len(indices)]]
            )
        return unweighted(indices)

    def state_dict(self) -> dict[str, Any]:
        return {"pool": self.pool.state_dict(), "random": self.random.state_dict()}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        self.pool.load_state_dict(found["pool"])
        self.random.load_state_dict(found["random"])
