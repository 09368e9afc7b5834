"""Typed hyperparameters with defaults and bounds.

SageMaker passes all values as text. An invalid value raises a `FatalError` that names the hyperparameter.

    @dataclass(frozen=True)
    class Settings(Options):
        table: str = text("a table's name")              # required
        rounds: int = whole(1, 100_000, 1000)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Self

from .failure import FatalError

Parser = Callable[[str], Any]
"""Converts the text of a hyperparameter. Raises ValueError or KeyError if the text is invalid."""


def option(parse: Parser, allowed: str, default: Any = MISSING) -> Any:
    """Declare a hyperparameter. Without a default, it is required. `allowed` follows `must be` in errors."""
    return field(default=default, metadata={"parse": parse, "allowed": allowed})


def whole(least: int, most: int, default: Any = MISSING) -> Any:
    """Declare an integer from `least` to `most`."""

    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError
        return value

    return option(parse, f"a whole number from {least} to {most}", default)


def number(least: float, most: float, default: Any = MISSING, above: bool = False) -> Any:
    """Declare a float from `least` to `most`; with `above`, `least` itself is not allowed."""

    def parse(text: str) -> float:
        value = float(text)
        if not (least < value <= most or (value == least and not above)):
            raise ValueError
        return value

    return option(parse, f"a number {'above' if above else 'from'} {least:g} and up to {most:g}", default)


def choice(*names: str, default: Any = MISSING) -> Any:
    """Declare an enumeration of strings."""
    return option({name: name for name in names}.__getitem__, " or ".join(names), default)


def flag(default: Any = MISSING) -> Any:
    """Declare a boolean, `true` or `false`."""
    return option({"true": True, "false": False}.__getitem__, "true or false", default)


def text(allowed: str, default: Any = MISSING) -> Any:
    """Declare a non-empty string."""

    def parse(given: str) -> str:
        if not given:
            raise ValueError
        return given

    return option(parse, allowed, default)


def name_of(attribute: str) -> str:
    """Return the hyperparameter's name for an attribute, such as `lambda` for `lambda_` (`lambda` is
    reserved)."""
    return attribute.rstrip("_")


@dataclass(frozen=True)
class Options:
    """Base class for the hyperparameters of a container image."""

    NOUN: ClassVar[str] = "hyperparameter"
    """The noun before an option's name in error messages: `hyperparameter rounds must be ...`."""

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Self:
        """Parse the content of `hyperparameters.json`. Raises `FatalError` for the first invalid value.

        Names that SageMaker and its SDK add (`sagemaker_...`, `_tuning_...`) are ignored.
        """
        known = {name_of(each.name): each for each in fields(cls)}
        values = {}
        for name, text in given.items():
            if name.startswith(("sagemaker_", "_")):
                continue
            if name not in known:
                raise FatalError(f"{cls.NOUN} {name} is unknown, must be one of {', '.join(sorted(known))}")
            values[known[name].name] = _parsed(f"{cls.NOUN} {name}", str(text), known[name].metadata)
        for name, each in known.items():
            if each.name not in values and each.default is MISSING:
                raise FatalError(f"{cls.NOUN} {name} is missing, must be {each.metadata['allowed']}")
        return cls(**values)


def _parsed(name: str, text: str, metadata: Mapping[str, Any]) -> Any:
    try:
        return metadata["parse"](text.strip())
    except (ValueError, KeyError):
        raise FatalError(f"{name} must be {metadata['allowed']}, got {text!r}") from None
