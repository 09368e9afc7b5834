"""The decision to accept or reject a candidate model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from power_forecaster import evaluate
from power_forecaster.evaluate import TOLERATED, champion_of, verdict
from power_forecaster.trained import Trained
from toolkit.failure import FatalError


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


@pytest.mark.parametrize(
    ("capture", "accepted", "reason"),
    [
        (0.90, True, "not compared: another kind"),
        (0.79, True, "not compared: another kind"),
        (0.70, False, "capture 0.7000 is below the best naive forecast's 0.8000"),
        (0.40, False, "capture must be at least 0.5, got 0.4000"),
    ],
)
def test_best_naive_forecast_replaces_an_unreadable_champion(
    capture: float, accepted: bool, reason: str
) -> None:
    found = compared(capture, None)
    found["capture"] |= {"high": capture + 0.02, "best_naive": 0.8}
    assert verdict(found, 0.5, "another kind") == (accepted, reason)


def model(zone: str = "UTC", *locations: str) -> Trained:
    return Trained({"version": "1", "zone": zone}, {name: {} for name in locations or ("HUB",)})


@pytest.mark.parametrize(
    ("champion", "reason"),
    [
        (None, ""),
        (model("America/Chicago"), "the champion's zone must be UTC, got America/Chicago"),
        (model("UTC", "A"), "the champion must have all locations of the candidate; missing: HUB"),
        (FatalError("could not read the champion"), "could not read the champion"),
    ],
)
def test_champion_that_cannot_be_compared_is_omitted_with_a_reason(
    champion: Trained | FatalError | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # given a champion, or an error while the champion is read
    def unpacked(*_: Any) -> Trained | None:
        if isinstance(champion, FatalError):
            raise champion
        return champion

    monkeypatch.setattr(evaluate, "_unpacked", unpacked)
    # when the candidate has the time zone UTC and the location HUB, then the champion is omitted, and the
    # reason, if there is one, is logged
    assert champion_of(model(), Path()) == (None, reason)
    assert [record.getMessage() for record in caplog.records] == (
        [f"not compared: {reason}"] if reason else []
    )


def test_champion_of_the_same_kind_and_zone_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    champion = model("UTC", "HUB", "ANOTHER")
    monkeypatch.setattr(evaluate, "_unpacked", lambda *_: champion)
    assert champion_of(model(), Path()) == (champion, "")
