"""Selections of examples, the state from which they are computed, and the split of a budget over groups."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .gradients import Outputs


class Selection(NamedTuple):
    """The weighted subset for one epoch."""

    indices: Tensor
    """Shape [k], int64: example indices without repetition"""
    weights: Tensor
    """Shape [k], float32: training minimises mean(weight * loss). Weights average 1 unless a strategy
    documents otherwise."""


@dataclass(frozen=True)
class State:
    """Input of a selection, for n training examples of C classes.

    Forward passes are lazy: they run when a strategy first requests their outputs.
    """

    epoch: int
    """Epoch of the selection, from 0"""
    epochs: int
    seed: int
    labels: Tensor
    """Class index of each training example: shape [n], int64, on the CPU"""
    classes: int
    rate: float
    """Learning rate of the epoch"""
    losses: Tensor
    """Shape [n]: last training loss of each example; NaN if not trained on yet"""
    train: Callable[[], Outputs]
    """Return the model's outputs on the training set"""
    validation: Callable[[], Outputs]
    """Return the model's outputs on the validation set, or on a sample of it"""
    embeddings: Callable[[], Tensor]
    """Return fixed features [n, E], such as those of a pretrained network"""

    def __len__(self) -> int:
        return len(self.labels)

    def generator(self, purpose: str) -> torch.Generator:
        """Return a random generator, seeded with the run's seed, the epoch and the purpose."""
        return random_numbers(self.seed, self.epoch, purpose)


class Strategy(Protocol):
    """Selection strategy. `select` is called once per epoch, in order."""

    def select(self, state: State, k: int) -> Selection:
        """Select k of the n training examples and their weights. k may be any number from 1 to n."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as tensors and plain values."""
        ...

    def load_state_dict(self, found: dict[str, Any]) -> None: ...


class Stateless:
    """Base class of stateless strategies."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        del found


def random_numbers(*key: int | str) -> torch.Generator:
    """Return a random generator on the CPU, seeded with a hash of the key."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def permuted(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return the values shuffled."""
    return values[torch.randperm(len(values), generator=generator)]


def unweighted(indices: Tensor) -> Selection:
    return Selection(indices, torch.ones(len(indices)))


def weighted(indices: Tensor, weights: Tensor) -> Selection:
    """Return a selection with weights scaled to average 1."""
    return Selection(indices, (weights / weights.mean()).float())


def others(count: int, indices: Tensor) -> Tensor:
    """Return the sorted numbers from 0 to `count` - 1 that are not among the indices."""
    free = torch.ones(count, dtype=torch.bool)
    free[indices] = False
    return free.nonzero().squeeze(1)


def allot(sizes: Tensor, k: int) -> Tensor:
    """Split a budget of k examples over groups in proportion to their sizes, by the largest-remainder method.

    The quotas add up to k, and none exceeds its group's size. Of groups with equal remainders, the first ones
    get more.

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
    """Return the indices of each group's highest scores, as many as the group's quota.

    Of equal scores, the first ones are taken.

    :param scores: [n]
    :param groups: [n] int64, group of each score
    :param quotas: [G] int64
    """
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(groups[order], stable=True)]
    group = groups[order]
    sizes = torch.bincount(groups, minlength=len(quotas))
    rank = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[group]
    return order[rank < quotas[group]]


MOST_TOGETHER = 5000
"""Maximum number of examples compared pairwise at a time: the float64 matrix of all pairs has 200 MB."""


def parts(state: State, k: int, most: int = MOST_TOGETHER) -> list[tuple[Tensor, int]]:
    """Split the training set by class, and large classes at random into parts for pairwise comparison.

    Returns indices and budget of each part with a budget above 0. The parts are the same in every epoch.

    :param most: maximum number of examples in a part
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
