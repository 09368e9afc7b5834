"""`python -m portfolio_trader compile`: when the image is built, compile the functions that jobs would
otherwise compile at their start.

numba compiles a function for the types of its arguments, including the layout of arrays. So this module calls
the same functions as a job, with small inputs. The compiled code is stored next to the modules, in
`__pycache__`.
"""

from __future__ import annotations

import logging

import numpy as np
from llvmlite import binding
from numba import config

from . import ppo, train, variants
from .market import LOOK_BACK, History
from .settings import Settings

log = logging.getLogger(__name__)

EPISODES = 40


def precompile() -> None:
    """Compile for the CPU features in `NUMBA_CPU_FEATURES`, unless this processor lacks one of them."""
    here = binding.get_host_cpu_features()
    wanted = [name[1:] for name in (config.CPU_FEATURES or "").split(",") if name.startswith("+")]
    if missing := [name for name in wanted if not here.get(name)]:
        log.warning("not compiled, because this processor lacks %s; jobs compile at their start", missing[0])
        return
    for task in tasks():
        settings = Settings(observed=EPISODES)
        fitted, told = train.learn(task, settings)
        learner = ppo.Learner(task.rules, task.market, ppo.Hyperparameters(episodes=EPISODES, batch=EPISODES))
        for _ in learner.train():
            pass
        for policy in (fitted, learner.policy()):
            train.compare(task, policy, told["greedy_estimated"], settings)
    log.info("compiled")


def tasks() -> list[train.Task]:
    """Return a problem for each kind of prices: the price model, and a price history."""
    chosen = variants.variant("corrected")
    rules, market, generator = chosen.rules, chosen.market, np.random.default_rng(0)
    prices = 40 * np.exp(generator.normal(0, 0.02, (6 * EPISODES, market.assets)).cumsum(0))
    past, scales = prices[: 4 * EPISODES], History.scales_of(prices)
    later = History(prices[len(past) - LOOK_BACK :], scales, market.steps)
    return [
        train.Task(chosen.name, rules, market, market.draw(generator, EPISODES), curves=market),
        train.Task("own prices", rules, History(past, scales, market.steps), later.every(), later=later),
    ]
