"""How the local cloud changes MiniStack.

MiniStack is pinned, but what is used here is not its public interface. So every reach goes through
`touch`, which names the function and the parameters it is expected to have, and every change of its
behaviour is one `@hook` with one sentence of why. When an upgrade moves something, `install` raises
`Moved` with the hook's name.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, Protocol

from local.sagemaker import api


class Moved(Exception):
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
    """MiniStack's `module.attribute`; for a function, one with these leading parameters. Else `Moved`."""
    module_name, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(f"ministack.{module_name}"), attribute)
    except (ImportError, AttributeError) as error:
        raise Moved(f"MiniStack has no {name} any more") from error
    if parameters:
        has = list(inspect.signature(found).parameters)
        if has[: len(parameters)] != list(parameters):
            raise Moved(f"MiniStack's {name} takes ({', '.join(has)}), not ({', '.join(parameters)})")
    return found


def replace(name: str, *parameters: str) -> Callable[[Callable], Callable]:
    """Put a function in the place of MiniStack's `name`; it gets the original as its first argument."""
    original = touch(name, *parameters)
    module_name, _, attribute = name.rpartition(".")

    def put(function: Callable) -> Callable:
        wrapper = functools.wraps(original)(functools.partial(function, original))
        setattr(importlib.import_module(f"ministack.{module_name}"), attribute, wrapper)
        return function

    return put


HOOKS: dict[str, Callable[[Cloud], None]] = {}


def hook(function: Callable[[Cloud], None]) -> Callable[[Cloud], None]:
    HOOKS[function.__name__] = function
    return function


def install(cloud: Cloud) -> None:
    """Put every hook in its place, once a process. Raises `Moved` naming the hook that has none."""
    for name, put in HOOKS.items():
        try:
            put(cloud)
        except Exception as error:
            raise Moved(f"hook {name!r}: {error}") from error
