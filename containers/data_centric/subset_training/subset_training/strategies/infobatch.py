"""InfoBatch: leave out some of the examples that are learnt already."""

from __future__ import annotations

import torch

from ..selection import Selection, State, Stateless, permuted, unweighted

PRUNED = 0.5
ANNEALED = 0.875
"""Both as in the paper."""


class InfoBatch(Stateless):
    """InfoBatch: Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR
    2024.

    Of the m examples whose last loss is below the mean, a random share is left out of the epoch, and the
    others of the m are weighted up to stand for all m. The weights add up to n, so their mean is above 1.
    Examples that were never trained on are kept. The last epochs use all data. It needs no budget: k is
    ignored.

    :param pruned: share of the examples below the mean that is left out
    :param annealed: share of the epochs after which nothing is left out
    """

    def __init__(self, pruned: float = PRUNED, annealed: float = ANNEALED):
        self.pruned, self.annealed = pruned, annealed

    def select(self, state: State, k: int) -> Selection:
        losses = state.losses.cpu()
        below = losses < losses.nanmean()  # false where it is NaN
        if state.epoch >= self.annealed * state.epochs or not below.any():
            return unweighted(torch.arange(len(state)))
        learnt = below.nonzero().squeeze(1)
        count = max(1, round((1 - self.pruned) * len(learnt)))
        kept = permuted(learnt, state.generator("infobatch"))[:count]
        indices = torch.cat([(~below).nonzero().squeeze(1), kept])
        weights = torch.ones(len(indices))
        weights[-count:] = len(learnt) / count
        return Selection(indices, weights)
