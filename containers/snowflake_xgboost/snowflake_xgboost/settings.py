"""The hyperparameters: every one typed, with its default and what is allowed.

SageMaker hands all of them over as text. A wrong one is answered by one sentence that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from .failure import Failure

Parser = Callable[[str], Any]


def option(parse: Parser, allowed: str, default: Any = MISSING) -> Any:
    """A hyperparameter: how its text is read, what to say is allowed, its default (none: required)."""
    return field(default=default, metadata={"parse": parse, "allowed": allowed})


def whole(least: int, most: int, default: Any) -> Any:
    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError
        return value

    return option(parse, f"a whole number from {least} to {most}", default)


def number(least: float, most: float, default: Any, above: bool = False) -> Any:
    """A number in [least, most], or in (least, most] with `above`."""

    def parse(text: str) -> float:
        value = float(text)
        if not (least < value <= most or (value == least and not above)):
            raise ValueError
        return value

    return option(parse, f"a number {'above' if above else 'from'} {least:g} and up to {most:g}", default)


def choice(*names: str, default: Any) -> Any:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return option(parse, " or ".join(names), default)


def flag(default: bool) -> Any:
    return option({"true": True, "false": False}.__getitem__, "true or false", default)


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError
    return text.strip()


IDENTIFIER = r'(?:[A-Za-z_][A-Za-z0-9_$]*|"(?:[^"]|"")+")'


def _table(text: str) -> str:
    if not re.fullmatch(rf"{IDENTIFIER}(\.{IDENTIFIER}){{0,2}}", text.strip()):
        raise ValueError
    return text.strip()


def _coordinates(text: str) -> tuple[str, ...]:
    """`LATITUDE,LONGITUDE` as two names, or nothing."""
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    if len(names) not in (0, 2) or not all(names) or len(set(names)) != len(names):
        raise ValueError
    return names


OBJECTIVES = ("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:gamma", "count:poisson")


@dataclass(frozen=True)
class Settings:
    secret: str = option(_text, "the name or ARN of a secret in Secrets Manager")
    table: str = option(_table, 'a table as TABLE, SCHEMA.TABLE or DATABASE.SCHEMA.TABLE ("quoted" or not)')
    target: str = option(_text, "the name of a column")
    mode: str = choice("train", "evaluate", default="train")
    validation_fraction: float = number(0.01, 0.9, 0.2)
    seed: int = whole(0, 2**31 - 1, 42)
    rounds: int = whole(1, 100_000, 1000)
    early_stopping_rounds: int = whole(0, 100_000, 200)
    blanks: str = choice("keep", "drop", default="keep")
    coordinates: tuple[str, ...] = option(_coordinates, "two columns as LATITUDE,LONGITUDE, or nothing", ())
    checkpoint_every: int = whole(0, 100_000, 50)
    record_rows: bool = flag(False)
    timeout: int = whole(5, 86_400, 600)  # seconds that a host waits for another

    # XGBoost's own, under its own names
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

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Settings:
        """The settings in `hyperparameters.json`. Raises `Failure` naming the first wrong one.

        Names that SageMaker and its SDK add for themselves (`sagemaker_...`, `_tuning_...`) pass by.
        """
        known = {name_of(f.name): f for f in fields(cls)}
        values = {}
        for name, text in given.items():
            if name.startswith(("sagemaker_", "_")):
                continue
            if name not in known:
                raise Failure(f"there is no hyperparameter {name}; there are {', '.join(sorted(known))}")
            values[known[name].name] = _parsed(name, str(text), known[name].metadata)
        for name, f in known.items():
            if f.name not in values and f.default is MISSING:
                raise Failure(f"hyperparameter {name} is missing: it takes {f.metadata['allowed']}")
        return cls(**values)

    def booster_parameters(self) -> dict[str, Any]:
        """What XGBoost itself is told."""
        own = ("max_depth", "eta", "subsample", "colsample_bytree", "min_child_weight", "lambda_")
        own += ("alpha", "gamma", "objective", "tree_method", "nthread", "seed")
        parameters = {name_of(name): getattr(self, name) for name in own}
        # Seeding each round by its number makes a resumed training draw what an uninterrupted one draws.
        return parameters | {"seed_per_iteration": True, "eval_metric": "rmse"}


def name_of(attribute: str) -> str:
    """The hyperparameter behind an attribute (`lambda` is a word of Python's)."""
    return attribute.rstrip("_")


def _parsed(name: str, text: str, metadata: Mapping[str, Any]) -> Any:
    try:
        return metadata["parse"](text.strip())
    except (ValueError, KeyError):
        raise Failure(f"hyperparameter {name} is {text!r}: it takes {metadata['allowed']}") from None
