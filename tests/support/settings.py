"""Errors of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from settings import SettingsError, load


def error(context: Mapping[str, Any]) -> str:
    """Return the text of the error that the settings raise for a context."""
    with pytest.raises(SettingsError) as caught:
        load(context)
    return str(caught.value)
