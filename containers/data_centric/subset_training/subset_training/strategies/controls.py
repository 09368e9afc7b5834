"""Baseline strategies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..selection import Selection, State, Stateless, others, permuted, unweighted


class Full(Stateless):
    """Select all examples in every epoch: for the baselines `full` and, in fewer epochs, `fewer_epochs`."""

    def select(self, state: State, k: int) -> Selection:
        return unweighted(torch.arange(len(state)))


class AdaptiveRandom:
    """Select a new random subset in every epoch, without replacement across epochs.

    RS2: Okanovic et al., "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning", ICLR
    2024. Every example is used once before any is repeated. An epoch that reaches the end of a pass
    over the training set continues with the next pass and skips the examples that it has already selected.
    """

    def __init__(self) -> None:
        self.left = torch.empty(0, dtype=torch.int64)
        """Shuffled examples that the current pass has not used yet."""

    def select(self, state: State, k: int) -> Selection:
        generator, count = state.generator("adaptive random"), len(state)
        indices, self.left = self.left[:k], self.left[k:]
        if len(indices) < k:
            fresh = permuted(others(count, indices), generator)
            more = fresh[: k - len(indices)]
            self.left = permuted(others(count, more), generator)
            indices = torch.cat([indices, more])
        return unweighted(indices)

    def state_dict(self) -> dict[str, Any]:
        return {"left": self.left}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        left: Tensor = found["left"]
        self.left = left
