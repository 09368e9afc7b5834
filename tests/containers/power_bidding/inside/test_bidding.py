"""Day-ahead schedules, rounded to the power steps that the market allows."""

from __future__ import annotations

import numpy as np
import pytest

from power_forecaster.bidding import deliverable, level_after, reach
from power_forecaster.curves import Terms
from power_forecaster.storage import Asset, Scheduler

TERMS = Terms(floor=-150, cap=2000)


@pytest.mark.parametrize("asset", [Asset(), Asset(retention=0.99, lowest=2, discharge_efficiency=0.93)])
def test_rounded_schedule_can_be_delivered_on_every_day(asset: Asset) -> None:
    # given 200 days whose prices make several cycles a day profitable
    chance = np.random.default_rng(1)
    program = Scheduler(asset, 24)
    for prices in chance.normal(40, 60, (200, 24)):
        level = float(chance.uniform(asset.lowest, asset.energy))
        net = program.solve(prices, level).net
        # when the schedule is rounded
        rounded = deliverable(asset, net, level, TERMS)
        # then the battery can deliver every hour, and each value is a multiple of 0.1 MW close to the
        # schedule
        for mw in rounded:
            least, most = reach(asset, level)
            assert least - 1e-9 <= mw <= most + 1e-9
            assert mw == round(mw, 1)
            level = level_after(asset, level, np.array([mw]))
        assert np.abs(np.array(rounded) - net).max() < 1.5
