"""Settings of power_bidding."""

from __future__ import annotations

import pytest

from tests.support.settings import error


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"battery.lowest": "32"}, "battery.lowest is 32, allowed is: less than battery.energy, 32"),
        ({"assets": "a@X,a@Y"}, "assets has a name twice, allowed is: each name once"),
        (
            {"mode": "self_schedule", "keep_awards": "false"},
            "keep_awards is false, allowed is: true with the mode self_schedule",
        ),
        (
            {"mode": "managed_curves", "real_time_policy": "selected"},
            "real_time_policy is selected, allowed is: curve with the mode managed_curves",
        ),
        ({"late_minutes": "41"}, "late_minutes is 41, allowed is: 5 less than the minutes from a run's hour"),
    ],
)
def test_values_that_contradict_each_other_are_refused(given: dict[str, str], says: str):
    assert error({f"power_bidding.{name}": value for name, value in given.items()}).startswith(
        f"power_bidding.{says}"
    )
