"""GLISTER: select the examples whose gradients reduce the validation loss most."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..gradients import Outputs, along, total
from ..selection import Selection, State, Stateless, Strategy, allot, best, others, permuted, unweighted
from .controls import AdaptiveRandom

ROUNDS = 15
"""Default number of rounds of the greedy selection, as in the authors' code."""


class Glister(Stateless):
    """GLISTER-ONLINE: Killamsetty et al., "GLISTER: Generalization based Data Subset Selection for
    Efficient and Robust Learning", AAAI 2021.

    The validation loss after one gradient step on the subset is expanded to first order: the gain of an
    example is the inner product of its gradient and the gradient of the validation loss. Each round of the
    greedy selection takes the examples with the highest gains, then updates the validation logits by a
    gradient step on these examples. Only the last layer's gradients are used; for a step of the last layer,
    the updated logits are exact.

    :param rounds: rounds of the greedy selection; 0: one for each example to select
    :param balanced: if true, each round selects from the classes in proportion to their sizes
    :param epsilon: above 0: stochastic greedy. For each example that a round selects, it considers n / k *
        ln(1 / epsilon) random ones of the n training examples, where k is the budget (Mirzasoleiman et al.,
        "Lazier Than Lazy Greedy", AAAI 2015)
    """

    def __init__(self, rounds: int = ROUNDS, balanced: bool = False, epsilon: float = 0.0):
        if balanced and epsilon:
            raise ValueError(
                "epsilon must be 0 if balanced is true, because a sample is drawn from all classes together"
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
    """Select half of the budget at random, and the other half from a pool that another strategy selects.

    Repeating a fixed subset costs more accuracy than a good selection gains. So each epoch draws a new half
    from the pool. The random half is drawn without replacement over epochs, as in `AdaptiveRandom`. The first
    epochs are completely random, because gradients of an untrained model cost as much as later ones but
    contain no information about the examples.

    :param pool: strategy that selects the pool, which is twice as large as the half that is drawn from it
    :param begin: number of the first epoch, counted from 0, that draws from a pool
    """

    def __init__(self, pool: Strategy, begin: int = 0):
        self.pool, self.begin, self.random = pool, begin, AdaptiveRandom()

    def select(self, state: State, k: int) -> Selection:
        half = k // 2 if state.epoch >= self.begin else 0
        indices = self.random.select(state, k - half).indices
        if half:
            generator = state.generator("pool")
            pool = self.pool.select(state, min(2 * half, len(state))).indices
            drawn = permuted(pool[~torch.isin(pool, indices)], generator)[:half]
            indices = torch.cat([indices, drawn])
            # if more than half of the pool is in the random half, more random examples fill the budget
            indices = torch.cat(
                [indices, permuted(others(len(state), indices), generator)[: k - len(indices)]]
            )
        return unweighted(indices)

    def state_dict(self) -> dict[str, Any]:
        return {"pool": self.pool.state_dict(), "random": self.random.state_dict()}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        self.pool.load_state_dict(found["pool"])
        self.random.load_state_dict(found["random"])
