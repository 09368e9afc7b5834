"""The market on the replay's clock: deadlines, rules, clearing, state of charge."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.feeds import times
from local.feeds.clock import ReplayClock
from local.feeds.curves import MarketAsset, checked, cleared
from local.feeds.history import History
from local.feeds.market import Market
from local.feeds.world import World
from power_feeds import hours
from tests.support.power_bidding.feeds import ASSET, TEXAS

MIDNIGHT = hours.parse("2022-01-31T06:00Z")
"""Midnight of 31 January in Texas"""
CURVE = [[-8.0, -150.0], [0.0, 20.0], [1.65, 80.79], [5.15, 105.34], [8.0, 230.15]]


def market(start: float = MIDNIGHT, prices: dict[int, float] | None = None, real_time=None) -> Market:
    known = prices or dict.fromkeys(range(MIDNIGHT - 48, MIDNIGHT + 96), 50.0)
    series = {"price:HB_NORTH": known, "real_time:HB_NORTH": real_time or {}}
    past = History(series, min(known), max(known))
    return Market(World(past, ZoneInfo(TEXAS), ReplayClock(start, 1, paused=True)), {ASSET.name: ASSET})


def offer(hour: int, segments=None, market="RT", name="a") -> dict:
    wanted = segments or [[-8.0, -150.0]]
    return {"asset": ASSET.name, "market": market, "hour": times.text(hour), "segments": wanted, "id": name}


@pytest.mark.parametrize(
    ("price", "mw"),
    [(-200, -8.0), (-150, -8.0), (19.99, -8.0), (20, 0.0), (100, 1.65), (105.34, 5.15), (5_000, 8.0)],
)
def test_curve_clears_the_last_segment_that_is_not_dearer(price, mw):
    assert cleared([(mw, price) for mw, price in CURVE], price) == mw


@pytest.mark.parametrize(("early", "status"), [(1.25, 200), (1.2499, 422)])
def test_real_time_offer_is_due_75_minutes_before_its_hour(early, status):
    found = market()
    assert found.offer(offer(MIDNIGHT + 5), MIDNIGHT + 5 - early)[0] == status
    assert found.results(MIDNIGHT)["late"] == (status != 200)


@pytest.mark.parametrize(
    ("now", "status"), [("2022-01-31T16:00Z", 200), ("2022-01-31T17:00Z", 422)], ids=["10:00", "11:00"]
)
def test_day_ahead_offer_is_due_at_ten_the_previous_day(now, status):
    tomorrow = hours.parse("2022-02-01T12:00Z")
    assert market().offer(offer(tomorrow, market="DA"), hours.parse(now))[0] == status


def test_second_offer_for_an_hour_is_refused():
    found, hour = market(), MIDNIGHT + 5
    assert found.offer(offer(hour), MIDNIGHT) == (200, {"accepted": True})
    # when the same offer is sent again, then it is refused, and not counted as a double offer
    assert found.offer(offer(hour), MIDNIGHT)[0] == 409
    assert found.results(MIDNIGHT)["double"] == 0
    # when another offer for the same hour is sent, then it is refused, and counted as a double offer
    assert found.offer(offer(hour, name="b"), MIDNIGHT) == (409, {"error": "already offered"})
    assert found.results(MIDNIGHT)["double"] == 1
    # when an offer for the day-ahead market is sent, then it is accepted
    assert found.offer(offer(MIDNIGHT + 25, market="DA"), MIDNIGHT)[0] == 200


def test_same_offer_again_is_accepted_after_its_deadline():
    found, hour = market(), MIDNIGHT + 5
    found.offer(offer(hour), MIDNIGHT)
    assert found.offer(offer(hour), hour)[1]["accepted"]


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        ([], "1 to 10"),
        ([[0.1 * n, float(n)] for n in range(11)], "1 to 10"),
        ([[1.0, 5.0], [1.0, 6.0]], "must rise"),
        ([[1.0, 5.0], [2.0, 5.0]], "must rise"),
        ([[8.1, 5.0]], "mw must be from"),
        ([[-8.1, 5.0]], "mw must be from"),
        ([[1.0, -150.01]], "price must be from"),
        ([[1.0, 2_000.01]], "price must be from"),
        ([[float("nan"), 5.0]], "finite"),
        ([[True, 5.0]], "finite"),
        ([["1", 5.0]], "finite"),
        ([[1.0]], "two"),
        ("all", "1 to 10"),
    ],
)
def test_offer_that_breaks_a_rule_is_refused(segments, text):
    found = market()
    status, body = found.offer({**offer(MIDNIGHT + 5), "segments": segments}, MIDNIGHT)
    assert status == 422
    assert text in body["error"]
    assert found.results(MIDNIGHT)["invalid"] == 1


@pytest.mark.parametrize("field", ["asset", "market", "hour", "id"])
def test_offer_without_a_field_is_refused_by_its_name(field):
    given = offer(MIDNIGHT + 5)
    del given[field]
    status, body = market().offer(given, MIDNIGHT)
    assert status == 422
    assert field in body["error"]


def test_charge_is_carried_and_limits_delivery():
    found = market()
    for number in range(5):
        found.offer(offer(MIDNIGHT + 5 + number, [[-8.0, -150.0]]), MIDNIGHT)
    for number in range(5, 10):
        found.offer(offer(MIDNIGHT + 5 + number, [[8.0, -150.0]]), MIDNIGHT)
    settled = found.results(MIDNIGHT + 20)["settled"]
    charged = [row["mw"] for row in settled if row["mw"] < 0]
    sold = [row["mw"] for row in settled if row["mw"] > 0]
    # 32 MWh take less than five hours of charging at 8 MW with an efficiency of 85 %
    assert charged == pytest.approx([-8, -8, -8, -8, -(32 - 4 * 6.8) / 0.85])
    assert sold == pytest.approx([8, 8, 8, 8])
    assert found.results(MIDNIGHT + 20)["revenue"]["battery"] == pytest.approx((sum(charged) + 32) * 50)


def test_day_ahead_award_settles_at_its_price():
    # given: a charged battery, and an award of 2 MW in an hour with a high real-time price
    prices = dict.fromkeys(range(MIDNIGHT, MIDNIGHT + 96), 50.0)
    hour = MIDNIGHT + 30
    found = market(prices=prices, real_time={hour: 200.0})
    found.state_of_charge["battery"] = 32.0
    found.offer(offer(hour, [[2.0, 40.0]], market="DA"), MIDNIGHT)
    found.offer(offer(hour, [[2.0, 100.0], [8.0, 150.0]]), hour - 2)
    # when
    results = found.results(hour + 1)
    # then
    assert results["awards"] == {"battery": {times.text(hour): 2.0}}
    assert results["revenue"]["battery"] == pytest.approx(2 * 50 + 6 * 200)
    assert found.state_of_charge["battery"] == pytest.approx(24)


def test_day_ahead_award_is_known_when_prices_are_published():
    found, hour = market(), hours.parse("2022-02-01T12:00Z")
    found.offer(offer(hour, [[-4.0, 10.0]], market="DA"), MIDNIGHT)
    noon, one = hours.parse("2022-01-31T18:00Z"), hours.parse("2022-01-31T19:00Z")
    assert found.telemetry("battery", hour, noon)[1]["awards"] == {}
    assert found.telemetry("battery", hour, one)[1]["awards"] == {times.text(hour): -4.0}


def test_telemetry_expects_offers_and_awards_to_clear():
    found, hour = market(), MIDNIGHT + 6
    found.offer(offer(hour, [[-8.0, -150.0], [0.0, 60.0]]), MIDNIGHT)
    body = found.telemetry("battery", hour + 1, MIDNIGHT + 5)[1]
    assert body["state_of_charge"] == pytest.approx(6.8)
    assert found.state_of_charge["battery"] == 0
    assert found.telemetry("battery", hour + 1, hour + 1)[1]["state_of_charge"] == pytest.approx(6.8)


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=60), st.floats(0.5, 1), st.floats(0.5, 1))
def test_charge_never_leaves_its_bounds(wanted, charge, discharge):
    asset, soc, energy = MarketAsset("a", "b", 8, 32, charge, discharge), 0.0, 0.0
    for mw in wanted:
        done = asset.limited(mw, soc)
        assert abs(done) <= abs(mw) + 1e-9
        soc = asset.after(done, soc)
        energy += done
        assert 0 <= soc <= 32
    assert energy <= 1e-6  # no sale delivers energy that was not bought before


def test_checked_offer_equals_the_given_one():
    assert checked(CURVE, ASSET, -150, 2_000) == [(mw, price) for mw, price in CURVE]
