"""Choice of how containers run on this machine: in namespaces, or as plain processes."""

from __future__ import annotations

from dataclasses import dataclass

from local.namespaces import unavailable
from local.sagemaker.platform import Platform
from local.sagemaker.quotas import setting

SETTING = "container_isolation"
"""Setting with the value `namespaces`, `plain`, or `auto`: namespaces if this machine supports them."""

_WAYS = ("auto", "namespaces", "plain")


@dataclass(frozen=True)
class Way:
    """How containers run on this machine."""

    isolated: bool
    reason: str = ""
    """Why they are not isolated; empty if they are isolated"""

    def __str__(self) -> str:
        return "isolated in Linux namespaces" if self.isolated else f"plain processes: {self.reason}"


def way(platform: Platform) -> Way:
    """Return how a new container runs. Raises OSError if the setting cannot be met or is invalid."""
    wanted = setting(platform, SETTING)
    if wanted not in _WAYS:
        raise OSError(f"the setting {SETTING} must be one of {', '.join(_WAYS)}, got {wanted}")
    if wanted == "plain":
        return Way(False, f"the setting {SETTING} is plain")
    reason = unavailable(platform.home)
    if reason and wanted == "namespaces":
        raise OSError(
            f"the setting {SETTING} is namespaces, and this machine does not support them: {reason}"
        )
    return Way(not reason, reason)


def describe(platform: Platform) -> str:
    """Return a description of how new containers run, for the cloud's status."""
    try:
        return str(way(platform))
    except OSError as error:
        return f"no container can start: {error}"
