"""Valid and invalid notes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[3] / "runtime" / "notes" / "handler.py"


def test_note_that_is_too_long_is_refused() -> None:
    spec = importlib.util.spec_from_file_location("notes_handler", PATH)
    assert spec
    assert spec.loader
    handler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(handler)
    with pytest.raises(ValueError, match="at most 3 characters"):
        handler.name("four", 3)
