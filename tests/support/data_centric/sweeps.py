"""The input of a sweep, and the limits of a stack that accepts it."""

from __future__ import annotations

from typing import Any

from data_centric.core.sweep import Limits, Sweep, parse

LIMITS = Limits(
    {"full": False, "fewer_epochs": True, "adaptive_random": True, "glister": True, "infobatch": False},
    ("epochs", "augment"),
    most_jobs=20,
    most_seeds=5,
    at_once=2,
)
GIVEN: dict[str, Any] = {
    "dataset": "digits",
    "strategies": ["glister", "infobatch", "full"],
    "fractions": [0.1, 0.5],
    "seeds": [0, 1, 2],
}


def sweep(**changes: Any) -> Sweep:
    return parse(GIVEN | changes, LIMITS)
