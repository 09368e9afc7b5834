"""The decision to accept or reject a candidate model."""

from __future__ import annotations

from typing import Any

import pytest

from power_forecaster.evaluate import TOLERATED, verdict


def compared(capture: float, low: float | None) -> dict[str, Any]:
    over = None if low is None else {"value": low + 0.01, "low": low, "high": low + 0.02}
    loss = {"candidate": 0.81, "champion": 0.80, "best_naive": 1.0, "over_champion": over}
    return {"capture": {"candidate": capture}, "loss": loss}


@pytest.mark.parametrize(
    ("capture", "low", "accepted", "reason"),
    [
        (0.9, None, True, "no champion"),
        (0.9, -0.01, True, "no worse than the champion"),
        (0.9, TOLERATED / 2, True, "no worse than the champion"),
        (0.9, TOLERATED * 1.5, False, "loss 0.8100 is above the champion's 0.8000"),
        (0.4, None, False, "capture must be at least 0.5, got 0.4000"),
    ],
)
def test_clearly_worse_candidate_is_rejected(
    capture: float, low: float | None, accepted: bool, reason: str
) -> None:
    assert verdict(compared(capture, low), 0.5) == (accepted, reason)
