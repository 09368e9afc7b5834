"""The rate of a replay depends on the duration of a rehearsed offer, and the figures agree with the market's
settlement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scenarios.power_bidding import figures, steps, worth
from scenarios.power_bidding.visits import Visit

NOTICE_HOURS = 3.75


@pytest.mark.parametrize("seconds", [0.01, 0.9, 2.7, 30.0])
def test_replay_rate_leaves_time_for_an_offer(seconds: float) -> None:
    plan = replace(steps.WEEK, rate=2100, room=6)
    rate = steps.sustained_rate(seconds, NOTICE_HOURS, plan)
    assert NOTICE_HOURS * 3600 / rate >= plan.room * seconds
    assert rate <= plan.rate


def test_replay_rate_falls_when_a_rehearsed_offer_takes_longer() -> None:
    rates = [steps.sustained_rate(seconds, NOTICE_HOURS, steps.WEEK) for seconds in (0.5, 2.0, 4.0)]
    assert rates[0] == steps.WEEK.rate
    assert rates[0] > rates[1] > rates[2] >= 1


def test_awards_earn_only_deliverable_energy() -> None:
    # given a battery that buys 8 MWh once, and awards that sell this energy twice
    asset = {"energy": 8.0, "charge_efficiency": 1.0, "discharge_efficiency": 1.0}
    rows = [
        {"award": award, "day_ahead_price": day_ahead, "price": price}
        for award, day_ahead, price in [(-8.0, 10.0, 12.0), (8.0, 50.0, 40.0), (8.0, 60.0, 90.0)]
    ]
    # then the energy of the second sale is bought back at the real-time price
    assert worth.awards_alone(rows, asset) == -80 + 400 + 8 * 60 - 8 * 90


def test_months_and_state_machines_are_drawn(tmp_path: Path) -> None:
    months = [{"month": "2024-08", "days": 21, "candidate": 0.97, "best_naive": 0.96}]
    evaluation = {"months": months, "days": 21, "best_naive": "mean of 28 days"}
    drawn = figures.months(tmp_path / "months.svg", evaluation)
    assert "2024-08 0.970 against 0.960" in drawn.alt
    histories = {"prepare": [Visit("Fetch", 10.0, 11.0)], "bid": [Visit("Retrain", 11.0, 14.0)]}
    machines = figures.runs(tmp_path / "machines.svg", histories)
    assert machines.alt.endswith("prepare: Fetch; bid: Retrain.")
    assert all(name in machines.path.read_text() for name in ("Fetch", "Retrain"))
