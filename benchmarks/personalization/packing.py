"""The makespan of the deployed packing of fine-tunes onto a job's hosts, compared with a lower bound.

The packing knows estimated durations only. The makespan is the true time until the last host ends.
`lower_bound` is computed from the true durations; no packing is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.personalization.growth import HOSTS, TASKS_PER_HOST, Work
from personalization.core.packing import lower_bound, makespan, pack

SEEDS = 200

Packing = Callable[[Sequence[float], int], list[list[int]]]
"""Maps estimates and a number of hosts to each host's tasks, as positions in the estimates."""


def chunks(estimates: Sequence[float], hosts: int) -> list[list[int]]:
    """Return the packing of a loop over the queue: the first tasks on the first host, and so on."""
    return [part.tolist() for part in np.array_split(np.arange(len(estimates)), hosts)]


def ratios(packing: Packing, tasks: int, hosts: int, noise: float, seeds: int = SEEDS) -> np.ndarray:
    """Return the true makespan divided by the lower bound, for each of `seeds` draws of fine-tunes.

    The draws are the same for every packing. `noise` is the standard deviation of the logarithm of the true
    duration.
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
    """Return the mean of `ratios` and its normal 95 % interval, which is valid for thirty or more `seeds`."""
    found = ratios(packing, tasks, hosts, noise, seeds)
    mean, half = float(found.mean()), 1.96 * float(found.std(ddof=1)) / seeds**0.5
    return {
        "makespan_ratio": mean,
        "makespan_ratio_low": mean - half,
        "makespan_ratio_high": mean + half,
    }
