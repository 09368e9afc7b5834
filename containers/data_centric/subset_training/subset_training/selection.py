"""What a selection is, what it is made from, and how a budget is split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .gradients import Outputs


class Selection(NamedTuple):
    """The examples of one epoch."""

    indices: Tensor
    """[k] int64, each example at most once"""
    weights: Tensor
    """[k] float32: the loop minimises the mean of weight times loss. They average 1, except where a strategy
    says otherwise."""


@dataclass(frozen=True)
class State:
    """What a strategy may look at, for n training examples of C classes.

    Forward passes are made when a strategy first asks for them, so that the others do not pay for them.
    """

    epoch: int
    """The epoch that the selection is for, from 0"""
    epochs: int
    seed: int
    labels: Tensor
    """[n] int64, on the CPU"""
    classes: int
    rate: float
    """The learning rate of the epoch"""
    losses: Tensor
    """[n] the loss of each example when it was last trained on; NaN before that"""
    train: Callable[[], Outputs]
    """Outputs of the training set"""
    validation: Callable[[], Outputs]
    """Outputs of the validation set, or of a sample of it"""
    embeddings: Callable[[], Tensor]
    """[n, E] features that do not depend on the model in training"""

    def __len__(self) -> int:
        return len(self.labels)

    def generator(self, purpose: str) -> torch.Generator:
        """Return the random numbers of this seed and epoch for a purpose: the same ones after a
        resumption."""
        return random_numbers(self.seed, self.epoch, purpose)


class Strategy(Protocol):
    """Selects the examples of each epoch. Called once for each epoch, in order."""

    def select(self, state: State, k: int) -> Selection:
        """Return k of the n examples with their weights, for any k from 1 to n."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as tensors and plain values."""
        ...

    def load_state_dict(self, found: dict[str, Any]) -> None: ...


class Stateless:
    """Base class of strategies that keep nothing from one epoch to the next."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        del found


def random_numbers(*key: int | str) -> torch.Generator:
    """Return a generator on the CPU, the same for the same key."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def permuted(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return the values in random order."""
    return values[torch.randperm(len(values), generator=generator)]


def unweighted(indices: Tensor) -> Selection:
    return Selection(indices, torch.ones(len(indices)))


def weighted(indices: Tensor, weights: Tensor) -> Selection:
    """Return a selection whose weights are scaled to average 1."""
    return Selection(indices, (weights / weights.mean()).float())


def others(count: int, indices: Tensor) -> Tensor:
    """Return the numbers from 0 to `count` - 1 that are not among the indices, in order."""
    free = torch.ones(count, dtype=torch.bool)
    free[indices] = False
    return free.nonzero().squeeze(1)


def allot(sizes: Tensor, k: int) -> Tensor:
    """Split a budget over groups in proportion to their sizes.

    Shares are rounded down, and what is left goes to the largest remainders, the first of equal ones. They
    add up to k, and none is above its group's size.

    :param sizes: [G] int64 that add up to at least k
    """
    n = int(sizes.sum())
    if not 0 <= k <= n:
        raise ValueError(f"the budget must be from 0 to {n}, got {k}")
    shares, rest = sizes * k // n, sizes * k % n
    order = torch.argsort(rest, descending=True, stable=True)
    shares[order[: k - int(shares.sum())]] += 1
    return shares


def best(scores: Tensor, groups: Tensor, quotas: Tensor) -> Tensor:
    """Return the indices of the highest scores of each group, as many as its quota.

    Of equal scores the first is taken.

    :param scores: [n]
    :param groups: [n] int64, numbers of the groups
    :param quotas: [G] int64
    """
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(groups[order], stable=True)]
    group = groups[order]
    sizes = torch.bincount(groups, minlength=len(quotas))
    rank = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[group]
    return order[rank < quotas[group]]


MOST_TOGETHER = 5000
"""Examples that a strategy compares pairwise at a time: 200 MB of float64."""


def parts(state: State, k: int, most: int = MOST_TOGETHER) -> list[tuple[Tensor, int]]:
    """Split the training set by class, and each class at random into parts that are compared pairwise.

    Returns the indices and the budget of each part that has any. The parts are the same in every epoch.

    :param most: examples of a part
    """
    found: list[Tensor] = []
    generator = random_numbers(state.seed, "parts")
    for label in range(state.classes):
        members = (state.labels == label).nonzero().squeeze(1)
        if len(members) > most:
            members = permuted(members, generator)
        pieces = -(-len(members) // most)
        found += members.tensor_split(pieces) if pieces else []
    quotas = allot(torch.tensor([len(part) for part in found]), k)
    return [(part, quota) for part, quota in zip(found, quotas.tolist(), strict=True) if quota]
