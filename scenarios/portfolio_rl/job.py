"""Results of a completed training job: the policy's card, comparisons with baselines, held-out episodes."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from scenarios import ScenarioError, aws

BOUNDS = ("greedy on known means", "dynamic program on known means")
GREEDY_ESTIMATED = "greedy on estimated moments"


@dataclass(frozen=True)
class PolicyJob:
    """A training job. Arrays have R held-out episodes, T times and N assets."""

    name: str
    seconds: float
    card: dict[str, Any]
    table: dict[str, dict[str, Any]]
    """Figures of the policy and of each baseline, on the same held-out episodes."""
    curve: list[dict[str, float]]
    """PPO's metrics of each batch; empty for other methods."""
    prices: np.ndarray
    """[R, T, N] dollars"""
    lots: np.ndarray
    """[R, T, N] lots held before the decision at each time"""
    cash: np.ndarray
    """[R, T] dollars"""
    values: np.ndarray
    """[R, T] total values in dollars"""
    actions: np.ndarray
    """[R, T - 1, N] lots"""
    final: np.ndarray
    """Final values in dollars, of the R held-out episodes and further ones"""
    bound: np.ndarray
    """Final values of the same episodes, by the better of the baselines that know the mean prices"""

    @property
    def bound_name(self) -> str:
        """Return the name of the better of the baselines that know the mean prices."""
        return max((name for name in BOUNDS if name in self.table), key=self.mean)

    def mean(self, name: str = "policy") -> float:
        return float(self.table[name]["mean"])

    def ratio(self) -> dict[str, float]:
        """Return the policy's mean final value divided by that of the baseline `bound_name`.

        `value` is the ratio, `low` and `high` are its 95 % interval.
        """
        return self.table[self.bound_name]["ratio_of_policy"]

    def ratio_to(self, bound: np.ndarray) -> dict[str, float]:
        """Return the policy's mean final value divided by the mean of `bound`, in the format of `ratio`.

        `bound` has a baseline's final values of the same episodes. The interval is by the delta method.
        """
        value = float(self.final.mean() / bound.mean())
        deviation = float((self.final - value * bound).std(ddof=1))
        error = 1.96 * deviation / len(bound) ** 0.5 / float(bound.mean())
        return {"value": value, "low": value - error, "high": value + error}


def finished(name: str) -> PolicyJob:
    """Return a training job's results from S3. Raises `ScenarioError` if a file is missing."""
    seconds, model, output = aws.job_archives(name)
    try:
        results = json.loads(output["results.json"])
        episodes = np.load(io.BytesIO(output["episodes.npz"]))
        card = json.loads(model["card.json"])
    except KeyError as error:
        raise ScenarioError(f"the output of the training job {name} has no file {error}") from None
    arrays = ("prices", "lots", "cash", "values", "actions", "final", "bound")
    runs = {each: episodes[each] for each in arrays}
    return PolicyJob(name, seconds, card, results["table"], results["curve"], **runs)
