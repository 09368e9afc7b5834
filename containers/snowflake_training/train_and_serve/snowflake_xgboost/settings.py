"""The hyperparameters of training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from toolkit.options import Options, choice, flag, name_of, number, option, text, whole

from .identifiers import NAME, identifier, pair, table


def _table(given: str) -> str:
    table(given)
    return given


def _column(given: str) -> str:
    identifier(given)
    return given


def _coordinates(given: str) -> tuple[str, ...]:
    """Return the two identifiers of `LATITUDE,LONGITUDE`, or none for an empty text."""
    names = pair(given) if given else ()
    if len({identifier(name) for name in names}) != len(names):
        raise ValueError
    return names


OBJECTIVES = ("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:gamma", "count:poisson")

POSITIVE, NOT_NEGATIVE = ("reg:gamma",), ("count:poisson",)
"""Objectives whose target must be above 0, and objectives whose target must be at least 0. With other
objectives, the target may be any number."""


@dataclass(frozen=True, kw_only=True)
class Booster(Options):
    """Hyperparameters that are passed to XGBoost, with XGBoost's names."""

    max_depth: int = whole(1, 30, 8)
    eta: float = number(0, 1, 0.05, above=True)
    subsample: float = number(0, 1, 0.8, above=True)
    colsample_bytree: float = number(0, 1, 0.3, above=True)
    min_child_weight: float = number(0, 1e9, 5.0)
    lambda_: float = number(0, 1e9, 1.0)
    alpha: float = number(0, 1e9, 0.0)
    gamma: float = number(0, 1e9, 0.0)
    objective: str = choice(*OBJECTIVES, default="reg:squarederror")
    tree_method: str = choice("hist", default="hist")
    nthread: int = whole(0, 1024, 0)
    seed: int = whole(0, 2**31 - 1, 42)

    def booster_parameters(self) -> dict[str, Any]:
        """Return the parameters for XGBoost."""
        parameters = {name_of(each.name): getattr(self, each.name) for each in fields(Booster)}
        # With one seed per round, resumed training draws the same random numbers as uninterrupted training.
        return parameters | {"seed_per_iteration": True, "eval_metric": "rmse"}


@dataclass(frozen=True, kw_only=True)
class Settings(Booster):
    """All hyperparameters of the container."""

    secret: str = text("the name or ARN of a secret in Secrets Manager")
    table: str = option(_table, f"a table as TABLE, SCHEMA.TABLE or DATABASE.SCHEMA.TABLE, each {NAME}")
    target: str = option(_column, f"a column, {NAME}")
    mode: str = choice("train", "evaluate", default="train")
    validation_fraction: float = number(0.01, 0.9, 0.2)
    rounds: int = whole(1, 100_000, 1000)
    early_stopping_rounds: int = whole(0, 100_000, 200)
    blanks: str = choice("keep", "drop", default="keep")
    coordinates: tuple[str, ...] = option(
        _coordinates, f"two columns as LATITUDE,LONGITUDE, each {NAME}, or nothing", ()
    )
    checkpoint_every: int = whole(0, 100_000, 50)
    record_rows: bool = flag(False)
    timeout: int = whole(5, 86_400, 600)
    """Maximum number of seconds that a host waits for another host."""
