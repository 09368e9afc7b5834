"""The errors of invalid settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from settings import SettingsError, load


def error(context: Mapping[str, Any]) -> str:
    """Return the error message of the settings for an invalid context."""
    with pytest.raises(SettingsError) as caught:
        load(context)
    return str(caught.value)
