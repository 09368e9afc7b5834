"""Walk-forward test: value iteration is refitted before each part of the held-out prices, to all earlier
prices."""

from __future__ import annotations

from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

import numpy as np

from . import measures
from .market import LOOK_BACK, History
from .rules import Rules
from .values import Fitting, Maximiser, Run, fitted, run


def walk_forward(past: History, later: History, rules: Rules, seed: int, how: Fitting, folds: int) -> Run:
    """Trade every window of the held-out prices; the windows are split by their start into `folds` parts.

    The policy and the scales of a part are fitted to all prices before the part.

    :param later: the held-out prices, and before them the last `LOOK_BACK` prices of `past`
    :param how: hyperparameters, chosen on `past`
    """
    compiled, steps = rules.compiled(), later.steps
    prices = np.concatenate([past.prices, later.prices[LOOK_BACK:]])
    first, windows = len(past.prices), len(later.prices) - LOOK_BACK - steps + 1
    folds = min(folds, windows)
    begins = [first + windows * fold // folds for fold in range(folds + 1)]
    parts: list[Run] = []
    for begin, end in pairwise(begins):
        known = History(prices[:begin], History.scales_of(prices[:begin]), steps)
        policy = Maximiser(fitted(known.every(), compiled, rules.cash, seed, how), compiled)
        part = History(prices[begin - LOOK_BACK : end + steps - 1], known.scales, steps)
        parts.append(run(policy, part.every(), compiled, rules.cash))
    return Run(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Run)))


def compared(walked: Run, once: Run, rules: Rules, overlap: int) -> dict[str, Any]:
    """Return the value and risk of `walked`, and its paired gains over holding cash and over `once`.

    :param walked: run of the policies that are refitted before each part
    :param once: run of the policy that is fitted once
    """
    cash = np.full_like(walked.final, rules.cash)
    return {
        "summary": measures.summary(walked, rules.cash, overlap),
        "gain_over_hold": asdict(measures.gain(walked.final, cash, overlap)),
        "gain_over_fitted_once": asdict(measures.gain(walked.final, once.final, overlap)),
    }
