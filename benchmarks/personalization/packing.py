"""How close the deployed packing of fine-tunes onto a job's hosts comes to the best that is possible.

The packing sees estimates; what counts is how long the last host takes in truth. `lower_bound` of the true
durations is a time that no packing beats, not even one that knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.personalization.growth import HOSTS, TASKS_PER_HOST, Work
from personalization.core.packing import lower_bound, makespan, pack

SEEDS = 200

Packing = Callable[[Sequence[float], int], list[list[int]]]
"""From estimates and a number of hosts to each host's tasks, as positions in the estimates."""


def chunks(estimates: Sequence[float], hosts: int) -> list[list[int]]:
    """What a loop over the queue gives: the first tasks to the first host, and so on."""
    return [part.tolist() for part in np.array_split(np.arange(len(estimates)), hosts)]


def ratios(packing: Packing, tasks: int, hosts: int, noise: float, seeds: int = SEEDS) -> np.ndarray:
    """True makespan over the lower bound, for each of `seeds` draws of fine-tunes, the same for any packing.

    `noise` is the standard deviation of the logarithm of the true duration around its estimate.
    """
    work, found = Work(noise=noise), np.empty(seeds)
    for seed in range(seeds):
        images, seconds = work.draw(np.random.default_rng([seed, tasks, hosts]), tasks)
        estimates = work.estimates(images).tolist()
        truth = seconds.tolist()
        found[seed] = makespan(truth, packing(estimates, hosts)) / lower_bound(truth, hosts)
    return found


def makespan_ratio(
    tasks: int = HOSTS * TASKS_PER_HOST,
    hosts: int = HOSTS,
    noise: float = Work.noise,
    packing: Packing = pack,
    seeds: int = SEEDS,
) -> dict[str, float]:
    """The mean over `seeds` draws, at least thirty, and its 95 % interval by the normal distribution."""
    found = ratios(packing, tasks, hosts, noise, seeds)
    mean, half = float(found.mean()), 1.96 * float(found.std(ddof=1)) / seeds**0.5
    return {
        "makespan_ratio": mean,
        "makespan_ratio_low": mean - half,
        "makespan_ratio_high": mean + half,
    }
