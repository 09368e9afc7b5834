"""Access to MiniStack's internals, and changes of its behaviour.

MiniStack is pinned, but its internals are not a public interface. So every access uses `touch`, which checks
that the function exists with the expected parameters. Every change of behaviour is one `@hook`, whose
docstring gives the reason. If an upgrade of MiniStack removes what a hook needs, `install` raises
`MovedError` with the hook's name. Hooks change MiniStack only with `replace`, `put` and `record`, which list
each change in `CHANGES`; `undo` reverts them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from local.sagemaker import api


class MovedError(Exception):
    """MiniStack does not have an attribute or parameters that a hook expects."""


class Cloud(Protocol):
    """The part of the cloud's interface that hooks use."""

    platform: Any

    def context(self, account: str, region: str, access_key: str | None) -> api.Context: ...
    def sagemaker(self, *request: Any) -> tuple[int, dict[str, str], bytes]: ...
    def changed(self) -> None: ...
    def cut_off(self, stack: dict) -> None: ...
    def full(self, size: int) -> str | None: ...


def touch(name: str, *parameters: str) -> Any:
    """Return MiniStack's `module.attribute`. A function's first parameters must be `parameters`.

    Raises `MovedError` if the attribute does not exist or the parameters differ.
    """
    module_name, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(f"ministack.{module_name}"), attribute)
    except (ImportError, AttributeError) as error:
        raise MovedError(f"MiniStack has no {name} any more") from error
    if parameters:
        has = list(inspect.signature(found).parameters)
        if has[: len(parameters)] != list(parameters):
            raise MovedError(f"MiniStack's {name} takes ({', '.join(has)}), not ({', '.join(parameters)})")
    return found


@dataclass(frozen=True)
class Change:
    """A change of MiniStack: the hook that made it, the changed object, and a function that reverts the
    change."""

    hook: str
    place: str
    revert: Callable[[], Any]


CHANGES: list[Change] = []
"""All changes, in the order in which they were made."""

_installing = ""
"""Name of the hook that is being installed."""


def record(place: str, revert: Callable[[], Any]) -> None:
    """Add to `CHANGES` that the current hook changed an object of MiniStack."""
    CHANGES.append(Change(_installing, place, revert))


def put(place: str, *keys: str, value: Any) -> None:
    """Set MiniStack's `module.attribute`; with `keys`, set the item at these keys in that dictionary
    instead."""
    found = touch(place)
    if keys:
        *above, key = keys
        owner = functools.reduce(operator.getitem, above, found)
        had, original = key in owner, owner.get(key)
        owner[key] = value
        revert = functools.partial(operator.setitem, owner, key, original) if had else lambda: owner.pop(key)
        return record(".".join((place, *keys)), revert)
    module_name, _, attribute = place.rpartition(".")
    module = importlib.import_module(f"ministack.{module_name}")
    setattr(module, attribute, value)
    return record(place, functools.partial(setattr, module, attribute, found))


def undo() -> None:
    """Revert all changes, the last one first. Afterwards `install` can be called again."""
    while CHANGES:
        CHANGES.pop().revert()


def replace(name: str, *parameters: str) -> Callable[[Callable], Callable]:
    """Return a decorator that replaces MiniStack's function `name`. The new function gets the original as its
    first argument."""
    original = touch(name, *parameters)

    def decorate(function: Callable) -> Callable:
        put(name, value=functools.wraps(original)(functools.partial(function, original)))
        return function

    return decorate


HOOKS: dict[str, Callable[[Cloud], None]] = {}


def hook(function: Callable[[Cloud], None]) -> Callable[[Cloud], None]:
    HOOKS[function.__name__] = function
    return function


def install(cloud: Cloud) -> None:
    """Install all hooks. If one fails, revert all changes and raise `MovedError` naming the hook."""
    global _installing
    for name, apply in HOOKS.items():
        _installing = name
        try:
            apply(cloud)
        except Exception as error:
            undo()
            raise MovedError(f"hook {name!r}: {error}") from error
