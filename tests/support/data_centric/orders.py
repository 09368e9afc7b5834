"""Exhaustive interleavings of workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tests.support.turns import Killed, Turns

Work = Callable[[], object]
World = TypeVar("World")


@dataclass
class _Choices:
    """A schedule that follows a path, then always takes the first worker, and records the choices it had."""

    path: Sequence[int]
    alive: list[int]
    taken: list[tuple[int, int]] = field(default_factory=list)
    """(index of the chosen worker among the live workers, number of live workers)"""
    begun: set[int] = field(default_factory=set)

    def __iter__(self) -> Iterator[int]:
        while True:
            # In the first turn, a worker runs up to its first call. The order of the first turns does not
            # matter, because no calls are made in them
            waiting = [place for place, worker in enumerate(self.alive) if worker not in self.begun]
            if waiting:
                self.begun.add(self.alive[waiting[0]])
                yield waiting[0]
                continue
            place = self.path[len(self.taken)] if len(self.taken) < len(self.path) else 0
            self.taken.append((place, len(self.alive)))
            yield place


@dataclass(frozen=True)
class Case(Generic[World]):
    """A world after one interleaving of its workers."""

    world: World
    results: Sequence[object]
    """For each worker: its return value or exception"""


def every_order(
    make: Callable[[], tuple[World, Turns, Sequence[Work]]], kills: Sequence[tuple[int, int]] = ()
) -> Iterator[Case[World]]:
    """Yield a case for each interleaving of the workers' calls, each in a new world.

    :param make: returns a world, its turns and its workers
    :param kills: (worker, number of writes after which it is killed)
    """
    path: list[int] | None = []
    while path is not None:
        world, turns, works = make()
        choices = _Choices(path, list(range(len(works))))
        results = turns.run([_noted(work, n, choices) for n, work in enumerate(works)], iter(choices), kills)
        yield Case(world, results)
        path = _next(choices.taken)


def every_kill(workers: int, writes: int) -> list[tuple[tuple[int, int], ...]]:
    """Return every combination of workers to kill, each after one of its first `writes` writes."""
    ends = [[None, *((worker, number) for number in range(1, writes + 1))] for worker in range(workers)]
    return [tuple(kill for kill in chosen if kill) for chosen in itertools.product(*ends)]


def failures(results: Sequence[object]) -> list[BaseException]:
    """Return the exceptions that the workers raised, except `Killed`."""
    return [each for each in results if isinstance(each, BaseException) and not isinstance(each, Killed)]


def _noted(work: Work, number: int, choices: _Choices) -> Work:
    def run() -> object:
        try:
            return work()
        finally:
            choices.alive.remove(number)

    return run


def _next(taken: Sequence[tuple[int, int]]) -> list[int] | None:
    """Return the next path in order; None after the last."""
    left = list(taken)
    while left and left[-1][0] == left[-1][1] - 1:
        left.pop()
    return [place for place, _ in left[:-1]] + [left[-1][0] + 1] if left else None
