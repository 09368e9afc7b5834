"""The rate of a replay follows what a rehearsed offer took on this machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scenarios.power_bidding import steps

NOTICE_HOURS = 3.75


@pytest.mark.parametrize("seconds", [0.01, 0.9, 2.7, 30.0])
def test_an_offer_has_its_room_before_the_deadline(seconds: float) -> None:
    plan = replace(steps.WEEK, rate=2100, room=6)
    rate = steps.sustained_rate(seconds, NOTICE_HOURS, plan)
    assert NOTICE_HOURS * 3600 / rate >= plan.room * seconds
    assert rate <= plan.rate


def test_a_quiet_machine_replays_as_fast_as_planned_and_a_busy_one_slower() -> None:
    rates = [steps.sustained_rate(seconds, NOTICE_HOURS, steps.WEEK) for seconds in (0.5, 2.0, 4.0)]
    assert rates[0] == steps.WEEK.rate
    assert rates[0] > rates[1] > rates[2] >= 1
