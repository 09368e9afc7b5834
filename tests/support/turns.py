"""Interleave functions in a given order. They alternate at their calls of ports, the interfaces through which
the code reaches services, such as `table`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable


class Killed(BaseException):
    """The container of the function was killed. The function's code does not handle it."""


class Turns:
    """Each worker waits in `point` for its turn in the schedule. It can be killed in `wrote`, after one of
    its writes."""

    def __init__(self) -> None:
        self.done = threading.Semaphore(0)
        self.turns: dict[int, threading.Semaphore] = {}
        self.worker = threading.local()
        self.kill: set[tuple[int, int]] = set()
        """(worker, number of its writes after which it is killed)"""
        self.writes: dict[int, int] = {}

    def point(self) -> None:
        """Wait for the worker's turn. Called before each call of a port."""
        number = getattr(self.worker, "number", None)
        if number is not None:
            self.done.release()
            self.turns[number].acquire()

    def wrote(self) -> None:
        """Called after each write."""
        number = getattr(self.worker, "number", None)
        if number is not None:
            self.writes[number] += 1
            if (number, self.writes[number]) in self.kill:
                raise Killed

    def run(
        self, works: list[Callable[[], object]], schedule: Iterable[int], kill: Iterable[tuple[int, int]] = ()
    ) -> list[object]:
        """Run the workers in the order of `schedule`, and after its end one worker after the other. Return
        the result or the exception of each worker."""
        self.kill = set(kill)
        self.turns = {number: threading.Semaphore(0) for number in range(len(works))}
        self.writes = dict.fromkeys(self.turns, 0)
        results: list[object] = [None] * len(works)
        over: set[int] = set()

        def body(number: int) -> None:
            self.worker.number = number
            self.turns[number].acquire()
            try:
                results[number] = works[number]()
            except BaseException as error:
                results[number] = error
            over.add(number)
            self.done.release()

        threads = [threading.Thread(target=body, args=(number,), daemon=True) for number in self.turns]
        for thread in threads:
            thread.start()
        order = iter(schedule)
        while left := sorted(self.turns.keys() - over):
            number = left[next(order, 0) % len(left)]
            self.turns[number].release()
            self.done.acquire()
        for thread in threads:
            thread.join()
        return results
