"""Packing fine-tunes onto instances: each is packed once, and instances end at about the same time."""

from __future__ import annotations

import itertools
import random

import pytest

from personalization.core.packing import lower_bound, makespan, pack


def best(seconds: list[float], hosts: int) -> float:
    """Return the minimum makespan by exhaustive search."""
    ways = itertools.product(range(hosts), repeat=len(seconds))
    return min(
        max(sum(time for time, to in zip(seconds, way, strict=True) if to == host) for host in range(hosts))
        for way in ways
    )


@pytest.mark.parametrize("hosts", [1, 2, 3, 8])
def test_every_task_is_on_exactly_one_instance(hosts):
    seconds = [random.Random(7).uniform(1, 9) for _ in range(13)]
    plan = pack(seconds, hosts)
    assert len(plan) == hosts
    assert sorted(itertools.chain(*plan)) == list(range(13))


def test_tasks_of_an_instance_are_sorted_longest_first():
    seconds = [3.0, 9.0, 1.0, 7.0, 5.0]
    for host in pack(seconds, 2):
        assert [seconds[task] for task in host] == sorted((seconds[task] for task in host), reverse=True)


def test_plan_is_a_function_of_the_durations():
    assert pack([5.0, 5.0, 5.0], 2) == pack([5.0, 5.0, 5.0], 2) == [[0, 2], [1]]


def test_more_instances_than_tasks_leave_some_idle():
    assert pack([4.0], 3) == [[0], [], []]
    assert makespan([4.0], pack([4.0], 3)) == 4.0
    assert lower_bound([], 3) == makespan([], pack([], 3)) == 0.0


@pytest.mark.parametrize("seed", range(30))
def test_packing_is_at_most_a_third_worse_than_the_best(seed):
    rng = random.Random(seed)
    hosts = rng.randint(2, 3)
    seconds = [rng.uniform(1, 20) for _ in range(rng.randint(1, 8))]
    shortest = best(seconds, hosts)
    assert lower_bound(seconds, hosts) <= shortest + 1e-9
    assert makespan(seconds, pack(seconds, hosts)) <= shortest * (4 / 3 - 1 / (3 * hosts)) + 1e-9


def test_packing_with_noisy_estimates_is_within_5_percent_of_bound():
    """Pack 30 fine-tunes of 200 to 2,000 s onto four instances. The real durations deviate from the
    estimates, with a standard deviation of 10 %."""
    rng, ratios, chunks = random.Random(1), [], []
    for _ in range(400):
        estimates = [rng.uniform(200, 2000) for _ in range(30)]
        real = [estimate * rng.lognormvariate(0, 0.1) for estimate in estimates]
        bound = lower_bound(real, 4)
        ratios.append(makespan(real, pack(estimates, 4)) / bound)
        chunks.append(makespan(real, [range(at, min(at + 8, 30)) for at in range(0, 30, 8)]) / bound)
    assert sum(ratios) / len(ratios) <= 1.05
    assert sum(chunks) / len(chunks) > 1.2, "without packing, the makespan must be much longer"
