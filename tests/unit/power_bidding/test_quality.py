"""Each quality check: a realistic series that passes, and one that is refused."""

import pytest

from power_feeds import hours, quality
from power_feeds.errors import FeedMalformedError
from tests.support.power_bidding.feeds import TEXAS, history

START = hours.parse("2022-02-01T06:00Z")


@pytest.fixture
def series():
    return {name: dict(values) for name, values in history(START, 3).series.items()}


def names(series, reference=None) -> list[str]:
    return sorted({text.partition(":")[0] for text in quality.check(series, TEXAS, reference)})


@pytest.mark.parametrize("seed", range(20))
def test_days_with_equal_and_flat_nights_pass(seed):
    series = history(START, 3, seed=seed).series
    assert series["price:HB_NORTH"][START] == series["price:HB_WEST"][START]
    assert quality.check(series, TEXAS, series) == []


def test_hubs_equal_to_the_cent_for_a_day_are_refused(series):
    for hour in range(START + 24, START + 48):
        series["price:HB_WEST"][hour] = series["price:HB_NORTH"][hour] + 0.001
    assert names(series) == ["hubs_equal"]


def test_hubs_that_differ_in_two_hours_pass(series):
    for hour in range(START + 24, START + 46):
        series["price:HB_WEST"][hour] = series["price:HB_NORTH"][hour]
    assert names(series) == []


def test_load_zone_may_equal_its_hub_for_a_day(series):
    series["price:LZ_NORTH"] = dict(series["price:HB_NORTH"])
    assert names(series) == []


@pytest.mark.parametrize("name", ["price:HB_NORTH", "load", "temperature"])
def test_flat_series_is_refused(series, name):
    for hour in range(START + 20, START + 38):
        series[name][hour] = 21.5
    assert names(series) == ["flat"]


def test_seven_flat_hours_pass(series):
    for hour in range(START + 20, START + 27):
        series["price:HB_NORTH"][hour] = 21.5
    assert names(series) == []


@pytest.mark.parametrize("name", ["price:HB_NORTH", "load"])
def test_stale_series_is_refused(series, name):
    for hour in range(START + 24, START + 48):
        series[name][hour] = series[name][hour - 24]
    assert names(series) == ["stale"]


def test_half_a_repeated_day_passes(series):
    for hour in range(START + 24, START + 36):
        series["load"][hour] = series["load"][hour - 24]
    assert names(series) == []


@pytest.mark.parametrize("floor", quality.FLOORS)
def test_floor_price_in_every_hour_is_refused(series, floor):
    for hour in range(START + 24, START + 48):
        series["price:HB_NORTH"][hour] = floor
    assert "floor_price" in names(series)


def test_some_hours_at_the_floor_pass(series):
    for hour in range(START + 30, START + 37):
        series["price:HB_NORTH"][hour] = -150.0
    assert names(series) == []


@pytest.mark.parametrize("factor", [12, 1 / 12])
@pytest.mark.parametrize("name", ["price:HB_NORTH", "load"])
def test_units_off_by_twelve_are_refused(series, name, factor):
    wrong = dict(series, **{name: {hour: value * factor for hour, value in series[name].items()}})
    assert names(wrong, series) == ["units_off_by_twelve"]


def test_load_off_by_twelve_from_a_day_on_is_refused(series):
    for hour in range(START + 24, START + 48):
        series["load"][hour] *= 12
    assert names(series) == ["units_off_by_twelve"]


def test_price_spike_of_a_day_passes(series):
    for hour in range(START + 24, START + 48):
        series["price:HB_NORTH"][hour] = series["price:HB_NORTH"][hour - 24] * (4, 12, 36)[hour % 3]
    assert names(series) == []


def test_gap_of_four_hours_in_a_price_is_refused(series):
    for hour in range(START + 30, START + 34):
        del series["price:HB_NORTH"][hour]
    assert names(series) == ["gaps"]


def test_gap_of_three_hours_and_gaps_of_other_sources_pass(series):
    for hour in range(START + 30, START + 33):
        del series["price:HB_NORTH"][hour]
    for hour in range(START + 30, START + 37):
        del series["load"][hour]
    for hour in range(START, START + 40):
        series["temperature"][hour] = None
    assert names(series) == []


def test_external_forecast_may_repeat_itself(series):
    series["price_forecast:HB_NORTH"] = dict.fromkeys(range(START, START + 72), 30.0)
    assert names(series) == []


def test_refused_feed_names_the_check(series):
    with pytest.raises(FeedMalformedError, match=r"^flat: load has the same value for 18 hours"):
        quality.refuse({"load": dict.fromkeys(range(START, START + 24), 40_000.0)}, TEXAS)
