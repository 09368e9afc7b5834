"""Simulated labelers, who sign in and label through the HTTP API."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from scenarios import Progress, ScenarioError, people
from scenarios.data_centric.pictures import CLASSES, number_of

VANISHED, TWICE = 0.02, 0.1
"""Share of tasks that a labeler abandons, and share of answers that a labeler submits twice."""
AT_ONCE = 8
LEAST_ACCURATE, MOST_ACCURATE = 0.5, 0.9


@dataclass
class Labeler(people.User):
    """A labeler with a true accuracy, or a spammer with random answers."""

    accuracy: float = 1.0
    spammer: bool = False
    draw: np.random.Generator = field(default_factory=np.random.default_rng, repr=False)
    kept: list[str] = field(default_factory=list, repr=False)
    """Items whose answers were acknowledged"""
    repeated: int = 0
    """Number of answers that the API already had"""
    vanished: int = 0
    over: bool = False
    """Whether the run has closed"""

    def choose(self, truth: int) -> int:
        if self.spammer:
            return int(self.draw.integers(CLASSES))
        if self.draw.random() < self.accuracy:
            return truth
        return (truth + int(self.draw.integers(1, CLASSES))) % CLASSES

    def step(self, run: str, truth: Callable[[str], int]) -> bool:
        """Answer or abandon a task of the run. Return False if no task is available."""
        answer = self.raw("POST", f"/api/runs/{run}/task")
        if answer.status_code != 200:
            self.over = answer.status_code == 404
            if answer.status_code not in (204, 404, 503):
                raise ScenarioError(
                    f"a request for a task got status {answer.status_code}: {answer.text[:300]}"
                )
            return False
        task = answer.json()
        if self.draw.random() < VANISHED:
            self.vanished += 1  # after the lease has expired, any labeler may get the task
            return True
        body = {"item": task["item"], "choice": self.choose(truth(task["source"]["url"]))}
        for _ in range(2 if self.draw.random() < TWICE else 1):
            told = self.raw("POST", f"/api/runs/{run}/answers", body)
            result = told.json()["result"] if told.status_code == 200 else ""
            if result == "kept":
                self.kept.append(task["item"])
            elif result:
                self.repeated += 1
            elif told.status_code not in (404, 409, 503):
                raise ScenarioError(
                    f"the submission of an answer got status {told.status_code}: {told.text[:300]}"
                )
        return True


def label(
    run: str,
    labelers: Sequence[Labeler],
    labels: Sequence[int],
    progress: Progress,
    ended: Callable[[], bool],
    limit: float = 600,
) -> None:
    """Let the labelers do an open run's tasks until it is over. Raises `ScenarioError` after `limit` seconds.

    :param labels: true label of each picture of a digit, by the picture's index
    :param ended: whether the run's execution has ended
    """
    begun, told = time.monotonic(), 0.0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while not ended() and not all(labeler.over for labeler in labelers):
            done = list(
                pool.map(lambda each: each.step(run, lambda url: int(labels[number_of(url)])), labelers)
            )
            if time.monotonic() - begun > limit:
                raise ScenarioError(f"the labeling run {run} did not end within {limit:.0f} s")
            if time.monotonic() - told > 5:
                told = time.monotonic()
                progress(f"{len(labelers)} labelers · {sum(len(each.kept) for each in labelers)} answers")
            if not any(done):
                time.sleep(1)


def wait_until_open(run: str, labeler: Labeler, ended: Callable[[], bool], limit: float = 600) -> bool:
    """Wait until a run is open or has ended; return whether it is open.

    Raises `ScenarioError` after `limit` seconds.
    """
    begun = time.monotonic()
    while run not in names_of_runs(labeler):
        if ended():
            return False
        if time.monotonic() - begun > limit:
            raise ScenarioError(f"the labeling run {run} did not open within {limit:.0f} s")
        time.sleep(0.5)
    return True


def names_of_runs(labeler: Labeler) -> list[str]:
    """Return the names of the open runs."""
    return [run["name"] for run in labeler.ask("GET", "/api/runs")["runs"]]
