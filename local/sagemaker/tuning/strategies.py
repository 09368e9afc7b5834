"""Strategies of a tuning job: Random, Grid and Bayesian."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.sagemaker.jobs.job import JobError
from local.sagemaker.tuning.ranges import Range
from tooling import envs

SECONDS = 300
"""Timeout of a proposal in seconds. On a machine under load, importing Optuna takes long."""

Point = tuple[float, ...]
"""A value from 0 to 1 for each range."""


@dataclass
class Tried:
    """A point, and the objective of its training job; None: unknown."""

    point: Point
    value: float | None = None
    failed: bool = False


def most(strategy: str, ranges: Sequence[Range]) -> int | None:
    """Return the maximum number of points that a strategy proposes; None: unlimited."""
    return len(_grid(ranges)) if strategy == "Grid" else None


def proposed(
    strategy: str, ranges: Sequence[Range], tried: Sequence[Tried], seed: int, maximize: bool
) -> Point:
    """Return the next point, which is the same for the same arguments. Raises JobError."""
    if strategy == "Grid":
        return _grid(ranges)[len(tried)]
    if strategy == "Random":
        drawn = random.Random(f"{seed} {len(tried)}")  # noqa: S311 - nothing secret
        return tuple(drawn.random() for _ in ranges)
    return _bayesian(ranges, tried, seed, maximize)


def _grid(ranges: Sequence[Range]) -> list[Point]:
    return list(itertools.product(*(_middles(each.choices) for each in ranges)))


def _middles(count: int) -> list[float]:
    return [(number + 0.5) / count for number in range(count)]


def _bayesian(ranges: Sequence[Range], tried: Sequence[Tried], seed: int, maximize: bool) -> Point:
    """Return the next point from `optimizer.py`, which runs in a separate process and Python environment.

    Lambda functions run in the server's environment. It must not have packages that Lambda on AWS lacks."""
    asked = {
        "choices": [each.choices for each in ranges],
        "tried": [{"point": each.point, "value": each.value} for each in tried if not each.failed],
        "seed": seed + len(tried),
        "direction": "maximize" if maximize else "minimize",
    }
    program = Path(__file__).with_name("optimizer.py")
    try:
        done = subprocess.run(
            [envs.environment("tuning"), "-I", program],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={},
        )
    except subprocess.TimeoutExpired:
        raise JobError(
            f"InternalServerError: the optimizer proposed no hyperparameters within {SECONDS} s"
        ) from None
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise JobError(f"InternalServerError: the optimizer could not propose hyperparameters: {last}")
    return tuple(json.loads(done.stdout))
