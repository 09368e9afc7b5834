"""Schedules that sell regulation, by market day: settlement, no use of later prices, and days that are left
out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from power_forecaster import regulated
from power_forecaster.history import Doubles, History
from power_forecaster.regulation import Prices, Regulation, RegulationScheduler
from power_forecaster.schedules import self_schedules
from power_forecaster.storage import Asset
from toolkit.failure import FatalError

BATTERY = Asset()
TERMS = Regulation()
ZONE = "America/Chicago"
START = round(datetime(2022, 3, 1, 6, tzinfo=UTC).timestamp()) // 3600
DAYS, BEGIN = 20, 10
"""Number of days in the history, and number of the first scheduled day. Daylight saving time begins on the
thirteenth day of the history."""


def history() -> History:
    generator = np.random.default_rng(0)
    count = 24 * DAYS - 1
    feeds = {
        "regulation_up": generator.uniform(0, 30, count),
        "regulation_down": generator.uniform(0, 9, count),
    }
    return History(START, generator.normal(30, 20, count), feeds, ZONE)


def forecast(found: History) -> Doubles:
    """Return a forecast of the energy price: the true price with noise."""
    grid = found.days.grid(found.prices)
    return grid + np.random.default_rng(1).normal(0, 3, grid.shape)


def sold(found: History, terms: Regulation = TERMS) -> regulated.Sold:
    forecasts = {"noisy": forecast(found)}
    return regulated.sold(found, forecasts, BATTERY, terms, BEGIN, DAYS)["noisy"]


def test_dollars_of_a_schedule_are_those_at_the_days_prices() -> None:
    # given
    found = history()
    assert found.days.length[12] == 23
    # when
    result = sold(found)
    # then the revenue of a day is that of its schedule at the actual prices of the day
    for day, schedule in result.schedules.items():
        hours = found.days.hours(day)
        energy = found.prices[hours]
        up, down = (found.feeds[name][hours] for name in regulated.COLUMNS)
        capacity = schedule.up @ up + schedule.down @ down
        called = schedule.net + 0.25 * schedule.up - 0.25 * schedule.down
        assert result.capacity[day - BEGIN] == pytest.approx(capacity)
        assert result.revenue.dollars[day - BEGIN] == pytest.approx(called @ energy + capacity)
        assert len(schedule.net) == found.days.length[day]
    assert list(result.schedules) == list(range(BEGIN, DAYS))
    assert (result.revenue.dollars <= result.revenue.foresight + 1e-6).all()


def test_capacity_prices_of_the_day_and_later_are_not_used() -> None:
    # given two histories that differ only in the capacity prices from the first scheduled day on
    found = history()
    later = found.days.hours(BEGIN).start
    changed = {name: np.r_[values[:later], values[later:] * 3 + 50] for name, values in found.feeds.items()}
    # when both histories are scheduled
    one, other = sold(found).schedules[BEGIN], sold(replace(found, feeds=changed)).schedules[BEGIN]
    # then the offers of the first scheduled day are the same, and those of the next day differ
    np.testing.assert_array_equal(one.up, other.up)
    np.testing.assert_array_equal(one.net, other.net)
    assert (
        sold(found).schedules[BEGIN + 1].up != sold(replace(found, feeds=changed)).schedules[BEGIN + 1].up
    ).any()


def test_capacity_prices_are_forecast_by_the_mean_of_seven_days() -> None:
    found = history()
    grids = [found.days.grid(found.feeds[name])[BEGIN - 7 : BEGIN].mean(0) for name in regulated.COLUMNS]
    expected = RegulationScheduler(BATTERY, TERMS, 24).solve(Prices(forecast(found)[BEGIN], *grids))
    np.testing.assert_allclose(sold(found).schedules[BEGIN].up, expected.up, atol=1e-6)


def test_day_without_a_capacity_price_is_left_out_of_both() -> None:
    # given a missing capacity price on the third scheduled day
    found = history()
    found.feeds["regulation_down"][found.days.hours(BEGIN + 2).start + 5] = np.nan
    forecasts = {"noisy": forecast(found)}
    # when
    with_it = regulated.sold(found, forecasts, BATTERY, TERMS, BEGIN, DAYS)
    without = {"noisy": self_schedules(found, forecasts["noisy"], BATTERY, BEGIN, DAYS)}
    summary = regulated.summary([with_it], [without], TERMS)
    # then
    assert (summary["days"], summary["days_left_out"]) == (9, 1)
    (row,) = summary["rows"]
    kept = np.arange(DAYS - BEGIN) != 2
    assert row["dollars_without"] == pytest.approx(without["noisy"].dollars[kept].sum())
    assert row["dollars_without"] < row["dollars"] < summary["perfect_foresight_dollars"]
    assert row["capacity_dollars"] > 0
    assert row["capture"]["value"] == pytest.approx(row["dollars"] / summary["perfect_foresight_dollars"])


def test_hours_show_the_schedule_with_regulation_and_without() -> None:
    found = history()
    result = sold(found)
    rows = regulated.hours(found, result, forecast(found), BATTERY)
    assert len(rows) == 24 * (DAYS - BEGIN) - 1
    assert rows[0]["hour_utc"] == "2022-03-11T06:00Z"
    assert rows[5]["regulation_up"] == pytest.approx(result.schedules[BEGIN].up[5], abs=1e-4)
    assert rows[5]["mw"] == pytest.approx(result.schedules[BEGIN].net[5], abs=1e-4)
    assert any(row["mw"] != row["mw_without"] for row in rows)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        (
            {"regulation_up": [1.0]},
            "b.csv must have the columns regulation_up and regulation_down for an asset",
        ),
        (
            {"regulation_up": [1.0], "regulation_down": [np.nan]},
            "b.csv must have prices in the column regulation_down, got none",
        ),
    ],
)
def test_missing_capacity_prices_are_refused(feeds: dict[str, list[float]], message: str) -> None:
    columns = {name: np.array(values) for name, values in feeds.items()}
    with pytest.raises(FatalError, match=message):
        regulated.check_columns(History(START, np.ones(1), columns, ZONE), "b.csv")
