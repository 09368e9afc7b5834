"""The hyperparameters: every one typed, with its default and what is allowed.

SageMaker hands all of them over as text. A wrong one is answered by one sentence that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .failure import Failure


def option(parse: Callable[[str], Any], allowed: str, default: Any) -> Any:
    """A hyperparameter: how its text is read, what to say is allowed, its default."""
    return field(default=default, metadata={"parse": parse, "allowed": allowed})


def whole(least: int, most: int, default: int) -> Any:
    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError
        return value

    return option(parse, f"a whole number from {least} to {most}", default)


def number(least: float, most: float, default: float, above: bool = False) -> Any:
    """A number in [least, most], or in (least, most] with `above`."""

    def parse(text: str) -> float:
        value = float(text)
        if not (least < value <= most or (value == least and not above)):
            raise ValueError
        return value

    return option(parse, f"a number {'above' if above else 'from'} {least:g} and up to {most:g}", default)


def choice(*names: str, default: str) -> Any:
    return option({name: name for name in names}.__getitem__, " or ".join(names), default)


def flag(default: bool) -> Any:
    return option({"true": True, "false": False}.__getitem__, "true or false", default)


def _base(text: str) -> str:
    if text and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", text):
        raise ValueError
    return text


@dataclass(frozen=True)
class Settings:
    base: str = option(_base, "a Hugging Face id as OWNER/NAME or OWNER/NAME@REVISION, or nothing", "")
    method: str = choice("lora", "full", default="lora")
    targets: str = choice("attention", "attention+convolutions", default="attention+convolutions")
    rank: int = whole(1, 256, 8)
    alpha: float = number(0, 1024, 8.0, above=True)
    rank_falloff: float = number(0, 4, 0.0)  # a block has rank * (narrowest block / its width) ** this
    train_text_encoder: bool = flag(False)
    steps: int = whole(1, 100_000, 500)
    batch_size: int = whole(1, 256, 4)
    optimizer: str = choice("adamw", "muon", default="adamw")
    learning_rate: float = number(0, 1, 3e-4, above=True)
    warmup: float = number(0, 0.5, 0.05)
    resolution: int = whole(0, 2048, 0)  # 0: the base's own
    variants: int = whole(1, 256, 8)  # differently cut and turned copies of each picture
    prior_weight: float = number(0, 10, 0.5)
    prior_images: int = whole(0, 1000, 16)
    prior_batch: int = whole(0, 256, 1)
    precision: str = choice("auto", "fp32", "bf16", "fp16", default="auto")
    previews: int = whole(0, 16, 4)
    preview_steps: int = whole(1, 200, 30)
    guidance: float = number(1, 30, 5.0)
    seed: int = whole(0, 2**31 - 1, 0)
    checkpoint_every: int = whole(0, 100_000, 100)  # steps; 0: only when stopped
    threads: int = whole(0, 1024, 0)  # of the CPU; 0: all

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Settings:
        """The settings in `hyperparameters.json`. Raises `Failure` naming the first wrong one.

        Names that SageMaker and its SDK add for themselves (`sagemaker_...`, `_tuning_...`) pass by.
        """
        known = {f.name: f.metadata for f in fields(cls)}
        values = {}
        for name, text in given.items():
            if name.startswith(("sagemaker_", "_")):
                continue
            if name not in known:
                raise Failure(f"there is no hyperparameter {name}; there are {', '.join(sorted(known))}")
            try:
                values[name] = known[name]["parse"](str(text).strip())
            except (ValueError, KeyError):
                raise Failure(
                    f"hyperparameter {name} is {str(text)!r}: it takes {known[name]['allowed']}"
                ) from None
        return cls(**values)
