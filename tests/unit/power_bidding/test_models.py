"""The check whether the deployed model is current: its age, its trailing loss, and reasons against a
retraining."""

from __future__ import annotations

import random

import pytest

from power_bidding.core.assets import AssetSettings, ModelSettings
from power_bidding.core.bid_ports import Forecast, Serving
from power_bidding.core.currency import Inspection, check_model, day_ratio, loss_ratio
from power_feeds import hours
from tests.support.power_bidding.desks import ASSET, BATTERY, LOCATION, SETTINGS, ZONE, Offers, Past
from tests.support.turns import Turns

RUN = hours.parse("2022-02-20T12:00Z")
TODAY = "2022-02-20"
YOUNG = Serving("power-0123456789ab", "7", RUN - 100)


class Trainings:
    def __init__(self, executes: bool = False) -> None:
        self.executes = executes

    def executing(self) -> bool:
        return self.executes


def inspection(errors: dict[int, float] | None = None, model: str = "7") -> Inspection:
    """Return an inspection; `errors` has the error of the forecasts in $/MWh, by the number of days before
    today. Prices alternate daily between 30 and 40 $/MWh, so the error of persistence is 10.
    """
    offers, past = Offers(Turns()), Past(days=30)
    for back in range(-3, 25):
        for hour in hours.hours_of(hours.shifted(TODAY, -back), ZONE):
            past.prices[hour] = 40.0 if back % 2 else 30.0
    for back, error in (errors or {}).items():
        day = hours.shifted(TODAY, -back)
        whole = hours.hours_of(day, ZONE)
        prices = [past.prices[hour] + error for hour in whole]
        offers.put_forecast(Forecast(ASSET, day, whole[0], prices, model, whole[0] - 20, "x"))
    assets = {ASSET: AssetSettings(LOCATION, "curves", "curve", True, BATTERY)}
    return Inspection(assets, SETTINGS, ModelSettings(168, 24, 800), offers, past)


def test_model_is_not_current_when_none_is_in_service() -> None:
    found = check_model(inspection(), Trainings(), None, RUN - 1, RUN)
    assert found == {"current": False, "reason": "no model is in service", "endpoint": ""}


@pytest.mark.parametrize(("age", "current"), [(0, True), (168, True), (169, False)])
def test_model_is_current_up_to_its_maximum_age(age: int, current: bool) -> None:
    found = check_model(inspection(), Trainings(), Serving("e", "7", RUN - age), None, RUN)
    assert found["current"] is current
    assert found["endpoint"] == "e"
    assert current or "ends 169 hours before the run, must be at most 168" in found["reason"]


@pytest.mark.parametrize(("error", "current"), [(9.9, True), (10.0, False), (25.0, False)])
def test_model_is_current_while_it_beats_persistence(error: float, current: bool) -> None:
    desk = inspection(dict.fromkeys(range(1, 15), error))
    found = check_model(desk, Trainings(), YOUNG, None, RUN)
    assert found["current"] is current
    assert loss_ratio(desk, ASSET, LOCATION, "7", RUN) == pytest.approx(min(error / 10, 3))


def test_one_day_of_spikes_does_not_decide() -> None:
    # given 13 days with good forecasts, and a day on which the error was 1,000 times that of persistence
    desk = inspection(dict.fromkeys(range(2, 15), 8.0) | {1: 10_000.0})
    assert loss_ratio(desk, ASSET, LOCATION, "7", RUN) == pytest.approx((13 * 0.8 + 3) / 14)
    assert check_model(desk, Trainings(), YOUNG, None, RUN)["current"]


def test_loss_counts_the_model_in_service_only() -> None:
    desk = inspection(dict.fromkeys(range(1, 15), 30.0), model="6")
    assert loss_ratio(desk, ASSET, LOCATION, "7", RUN) is None
    assert check_model(desk, Trainings(), YOUNG, None, RUN)["current"]


def test_loss_of_too_few_days_is_no_judgement() -> None:
    assert loss_ratio(inspection(dict.fromkeys(range(1, 7), 30.0)), ASSET, LOCATION, "7", RUN) is None
    assert loss_ratio(inspection(dict.fromkeys(range(1, 8), 30.0)), ASSET, LOCATION, "7", RUN) == 3.0


def test_loss_uses_the_last_14_days_only() -> None:
    # given very wrong forecasts for today, which has not ended, and for days more than 14 days ago
    desk = inspection(dict.fromkeys(range(1, 15), 5.0) | {0: 500.0, -1: 500.0, 15: 500.0, 16: 500.0})
    before = loss_ratio(desk, ASSET, LOCATION, "7", RUN)
    assert before == pytest.approx(0.5)
    # when all data after the run's hour is replaced
    past = desk.history
    assert isinstance(past, Past)
    for hour in [each for each in past.prices if each > RUN]:
        past.prices[hour] = random.uniform(-150, 2000)
    assert loss_ratio(desk, ASSET, LOCATION, "7", RUN) == before


def test_day_counts_once_its_last_hour_is_there() -> None:
    last = hours.hours_of(TODAY, ZONE)[-1]
    desk = inspection(dict.fromkeys(range(0, 7), 5.0))
    assert loss_ratio(desk, ASSET, LOCATION, "7", last - 1) is None
    assert loss_ratio(desk, ASSET, LOCATION, "7", last) == pytest.approx(0.5)


@pytest.mark.parametrize("day", ["2022-03-13", "2022-03-14", "2022-11-06", "2022-11-07"])
def test_days_of_23_and_25_hours_are_judged(day: str) -> None:
    before, whole = hours.hours_of(hours.shifted(day, -1), ZONE), hours.hours_of(day, ZONE)
    prices = dict.fromkeys(before, 30.0) | dict.fromkeys(whole, 40.0)
    forecast = Forecast(ASSET, day, whole[0], [45.0] * len(whole), "7", 0, "x")
    assert day_ratio(forecast, prices, ZONE) == 0.5
    # a day that lacks the price of an hour has no ratio
    del prices[whole[3]]
    assert day_ratio(forecast, prices, ZONE) is None


@pytest.mark.parametrize(("error", "ratio"), [(0.0, 0.0), (0.01, 3.0)])
def test_day_like_the_one_before_has_a_ratio_too(error: float, ratio: float) -> None:
    before, whole = hours.hours_of("2022-02-01", ZONE), hours.hours_of("2022-02-02", ZONE)
    prices = dict.fromkeys((*before, *whole), 30.0)
    assert day_ratio(Forecast(ASSET, "2022-02-02", 0, [30 + error] * 24, "7", 0, "x"), prices, ZONE) == ratio


def test_run_continues_while_a_retraining_executes() -> None:
    found = check_model(inspection(), Trainings(True), Serving("e", "7", RUN - 200), None, RUN)
    assert found["current"]
    assert found["reason"].startswith("already retraining: the training data ends 200 hours before")


@pytest.mark.parametrize(
    ("last", "current"), [(RUN - 24, False), (RUN - 23, True), (RUN, True), (RUN + 1, False)]
)
def test_model_in_service_is_not_retrained_too_soon(last: int, current: bool) -> None:
    # A pipeline that failed, or made a version that was not better, is not started again every hour.
    found = check_model(inspection(), Trainings(), Serving("e", "7", RUN - 200), last, RUN)
    assert found["current"] is current
