"""How the local cloud changes MiniStack.

MiniStack is pinned, but what is used here is not its public interface. So every reach goes through
`touch`, which names the function and the parameters it is expected to have, and every change of its
behaviour is one `@hook` with one sentence of why. When an upgrade moves something, `install` raises
`MovedError` with the hook's name. Hooks change MiniStack through `replace`, `put` and `record` alone, which
list each change in `CHANGES`; `undo` reverts them.
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
    """A hook found MiniStack other than it was when the hook was written."""


class Cloud(Protocol):
    """What the hooks ask of the cloud that they are installed for."""

    platform: Any

    def context(self, account: str, region: str, access_key: str | None) -> api.Context: ...
    def sagemaker(self, *request: Any) -> tuple[int, dict[str, str], bytes]: ...
    def changed(self) -> None: ...
    def cut_off(self, stack: dict) -> None: ...
    def full(self, size: int) -> str | None: ...


def touch(name: str, *parameters: str) -> Any:
    """Return MiniStack's `module.attribute`; for a function, one with these leading parameters.

    Raises `MovedError` when there is none.
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
    """A change of MiniStack: the hook that made it, the place, and a function that reverts it."""

    hook: str
    place: str
    revert: Callable[[], Any]


CHANGES: list[Change] = []
"""In the order in which they were made."""

_installing = ""
"""The hook that is being installed."""


def record(place: str, revert: Callable[[], Any]) -> None:
    """List a change that a hook made to an object of MiniStack."""
    CHANGES.append(Change(_installing, place, revert))


def put(place: str, *keys: str, value: Any) -> None:
    """Set MiniStack's `module.attribute`; with `keys`, the item below them in that dictionary."""
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
    """Revert all changes, the last one first. `install` may be called again afterwards."""
    while CHANGES:
        CHANGES.pop().revert()


def replace(name: str, *parameters: str) -> Callable[[Callable], Callable]:
    """Put a function in the place of MiniStack's `name`; it gets the original as its first argument."""
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
    """Install all hooks. Raises `MovedError` naming a hook without its place, with all changes reverted."""
    global _installing
    for name, apply in HOOKS.items():
        _installing = name
        try:
            apply(cloud)
        except Exception as error:
            undo()
            raise MovedError(f"hook {name!r}: {error}") from error
