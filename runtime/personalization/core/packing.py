"""Assignment of fine-tunes to instances: longest first, each to the first free instance (Graham's LPT)."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def pack(seconds: Sequence[float], hosts: int) -> list[list[int]]:
    """Return the tasks of each of `hosts` instances, in running order, as positions in `seconds`.

    The longest tasks start first, so that short tasks remain to balance the instances' end times. With exact
    durations the last end time is at most 4/3 of the optimum, in practice within a few percent of it.
    """
    plan: list[list[int]] = [[] for _ in range(hosts)]
    free = [(0.0, host) for host in range(hosts)]
    for position in sorted(range(len(seconds)), key=lambda index: (-seconds[index], index)):
        busy, host = heapq.heappop(free)
        plan[host].append(position)
        heapq.heappush(free, (busy + seconds[position], host))
    return plan


def makespan(seconds: Sequence[float], plan: Sequence[Sequence[int]]) -> float:
    """Return the time from the start until the last instance has run its tasks, in seconds."""
    return max((sum(seconds[position] for position in host) for host in plan), default=0.0)


def lower_bound(seconds: Sequence[float], hosts: int) -> float:
    """Return a lower bound of the makespan of all plans, in seconds.

    The maximum of three durations: the longest task; the mean load of an instance; and the sum of the two
    shortest among the `hosts + 1` longest tasks, because one instance must run two of these.
    """
    ordered = sorted(seconds, reverse=True)
    if not ordered:
        return 0.0
    pair = ordered[hosts - 1] + ordered[hosts] if len(ordered) > hosts else 0.0
    return max(ordered[0], sum(ordered) / hosts, pair)
