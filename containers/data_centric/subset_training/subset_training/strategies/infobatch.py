"""InfoBatch: prune some of the examples with a low loss."""

from __future__ import annotations

import torch

from ..selection import Selection, State, Stateless, permuted, unweighted

PRUNED = 0.5
ANNEALED = 0.875
"""Defaults of the paper and of the authors' code."""


class InfoBatch(Stateless):
    """InfoBatch: Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR
    2024.

    A random share of the examples whose last loss is below average is pruned from the epoch. The remaining
    examples with a below-average loss get higher weights, so that the expected gradient is unchanged. The
    weights add up to n, so their mean is above 1. Examples that were never trained on are kept, and the last
    epochs use all data. The budget k is ignored.

    :param pruned: which share of the examples with a below-average loss is pruned
    :param annealed: share of the epochs after which nothing is pruned
    """

    def __init__(self, pruned: float = PRUNED, annealed: float = ANNEALED):
        self.pruned, self.annealed = pruned, annealed

    def select(self, state: State, k: int) -> Selection:
        losses = state.losses.cpu()
        below = losses < losses.nanmean()  # False for NaN
        if state.epoch >= self.annealed * state.epochs or not below.any():
            return unweighted(torch.arange(len(state)))
        learnt = below.nonzero().squeeze(1)
        count = max(1, round((1 - self.pruned) * len(learnt)))
        kept = permuted(learnt, state.generator("infobatch"))[:count]
        indices = torch.cat([(~below).nonzero().squeeze(1), kept])
        weights = torch.ones(len(indices))
        weights[-count:] = len(learnt) / count
        return Selection(indices, weights)
