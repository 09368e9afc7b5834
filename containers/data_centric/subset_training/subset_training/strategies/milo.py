"""MILO: model-agnostic subsets from embeddings, easy examples first."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..selection import Selection, State, Stateless, parts, unweighted
from .submodular import Doubles, disparity_min_gains, graph_cut

EASY = 1 / 6
REDUNDANCY = 0.4
EPSILON = 0.01
"""Defaults of the authors' code (CORDS)."""


class Milo(Stateless):
    """MILO: Killamsetty et al., "MILO: Model-Agnostic Subset Selection Framework for Efficient Model
    Training and Tuning", 2023.

    In each class, on cosine similarities of the embeddings:

    - stochastic-greedy exploration for the first epochs: a subset that is representative and easy to
      learn, by stochastic greedy on graph cut;
    - weighted random exploration for the later epochs: a random subset, where an example's probability is the
      Taylor softmax of its gain in disparity-min, which favours diverse examples.

    Every epoch gets a new subset. The paper uses embeddings of a pretrained network, and this class uses
    those that `State.embeddings` returns. Similarities are computed once, and again when a job resumes from a
    checkpoint.

    :param easy: share of the epochs that use graph cut
    """

    def __init__(self, easy: float = EASY):
        self.easy = easy
        self.similarities: dict[int, Doubles] = {}
        self.chances: dict[int, Tensor] = {}

    def select(self, state: State, k: int) -> Selection:
        generator = state.generator("milo")
        early = state.epoch < round(self.easy * state.epochs)
        chance = np.random.default_rng(generator.initial_seed())
        if not early:
            self.similarities.clear()
        indices: list[Tensor] = []
        for part, quota in parts(state, k):
            first = int(part[0])
            if early:
                if first not in self.similarities:
                    self.similarities[first] = (1 + cosines(state.embeddings()[part])) / 2
                found = graph_cut(self.similarities[first], quota, REDUNDANCY, chance, EPSILON)
                taken = torch.from_numpy(found)
            else:
                if first not in self.chances:
                    self.chances[first] = exploration(cosines(state.embeddings()[part]))
                taken = torch.multinomial(self.chances[first], quota, generator=generator)
            indices.append(part[taken])
        return unweighted(torch.cat(indices))


def cosines(embeddings: Tensor) -> Doubles:
    """Return the cosine similarity of all pairs, [n, n].

    :param embeddings: [n, E]
    """
    unit = functional.normalize(embeddings.double(), dim=1)
    return (unit @ unit.T).cpu().numpy()


def exploration(cosine: Doubles) -> Tensor:
    """Return the probability of each example in weighted random exploration, float64 [n].

    Distances are scaled to [0, 1], and gains are shifted so that the smallest is 0, as in the authors' code.
    """
    low, high = cosine.min(), cosine.max()
    gains = disparity_min_gains(1 - (cosine - low) / max(high - low, 1e-12))
    return torch.from_numpy(taylor_softmax(gains - gains.min()))


def taylor_softmax(gains: Doubles) -> Doubles:
    """Return the Taylor softmax of the gains: exp(x) is approximated by 1 + x + x^2 / 2."""
    found = 1 + gains + gains * gains / 2
    return found / found.sum()
