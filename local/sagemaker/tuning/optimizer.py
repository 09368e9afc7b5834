"""Program that proposes the next point of a Bayesian tuning job. Standard input and output are JSON.

It needs the packages of `requirements.txt`. The method is the tree-structured Parzen estimator (Bergstra et
al., NeurIPS 2011). Points whose job still runs count as bad points, so that concurrent jobs try different
points.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import optuna  # pyright: ignore[reportMissingImports]

RANDOM = 5
"""Number of random points before the estimator is used."""


def main() -> None:
    asked = json.load(sys.stdin)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spaces = {str(number): _space(count) for number, count in enumerate(asked["choices"])}
    sampler = optuna.samplers.TPESampler(
        seed=asked["seed"], n_startup_trials=RANDOM, constant_liar=True, multivariate=False
    )
    study = optuna.create_study(direction=asked["direction"], sampler=sampler)
    for each in asked["tried"]:
        values = {
            name: _value(unit, count)
            for (name, _), unit, count in zip(spaces.items(), each["point"], asked["choices"], strict=True)
        }
        running = each["value"] is None
        state = optuna.trial.TrialState.RUNNING if running else optuna.trial.TrialState.COMPLETE
        trial = optuna.trial.create_trial(
            params=values, distributions=spaces, state=state, value=each["value"]
        )
        study.add_trial(trial)
    found = study.ask(spaces).params
    point = [
        (found[name] + 0.5) / count if count else found[name]
        for name, count in zip(spaces, asked["choices"], strict=True)
    ]
    json.dump(point, sys.stdout)


def _space(choices: int) -> Any:
    if choices:
        return optuna.distributions.CategoricalDistribution(list(range(choices)))
    return optuna.distributions.FloatDistribution(0, 1)


def _value(unit: float, choices: int) -> float:
    return min(int(unit * choices), choices - 1) if choices else unit


if __name__ == "__main__":
    main()
