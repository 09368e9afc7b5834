"""Settings of power_bidding."""

from __future__ import annotations

import pytest

from tests.support.settings import error


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"battery.lowest": "32"}, "battery.lowest must be less than battery.energy (32), got 32"),
        ({"assets": "a@X,a@Y"}, "assets must have different names, got a, a"),
        (
            {"mode": "self_schedule", "keep_awards": "false"},
            "keep_awards must be true with the mode self_schedule, got false",
        ),
        (
            {"mode": "managed_curves", "real_time_policy": "selected"},
            "real_time_policy must be curve with the mode managed_curves, got selected",
        ),
        ({"late_minutes": "41"}, "late_minutes must be at most "),
    ],
)
def test_values_that_contradict_each_other_are_refused(given: dict[str, str], says: str):
    assert error({f"power_bidding.{name}": value for name, value in given.items()}).startswith(
        f"power_bidding.{says}"
    )
