"""Making bids: the request to the model, and invalid responses."""

from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import replace
from typing import Any

import pyarrow.parquet
import pytest

from power_bidding.core import awards, readings
from power_bidding.core.assets import Mode
from power_bidding.core.bid_ports import (
    EndpointThrottledError,
    MarketRefusedError,
    ModelAnswerError,
    Telemetry,
)
from power_bidding.core.bidding import make_bids
from power_bidding.core.offers import Offer, Slot
from power_feeds import hours
from tests.support.power_bidding.desks import ASSET, LAST, LOCATION, NIGHT, ZONE, World

TARGET = NIGHT + 2


def test_request_has_the_data_known_at_the_hour() -> None:
    # given a history that includes hours of later runs, and a dataset that includes future hours
    world = World()
    world.past.prices = {NIGHT: 31.0, NIGHT + 1: 99.0}
    world.ahead.known = {
        f"price:{LOCATION}": {hours.text(NIGHT): 0.0, hours.text(NIGHT + 1): 32.0},
        f"price_forecast:{LOCATION}": {hours.text(NIGHT + 3): 33.0},
        "load": {hours.text(NIGHT + 2): 41_000.0},
        "price:HB_OTHER": {hours.text(NIGHT + 2): 77.0},
    }
    world.market.known = Telemetry(12.5, {NIGHT + 1: -3.0})
    # when
    make_bids(world.desk, NIGHT, 1, ASSET)
    # then
    (asked,) = world.model.asked
    history = asked["history"]
    start = hours.parse(history["start"])
    assert start + len(history["real_time"]) - 1 == NIGHT
    assert history["price"][NIGHT - start :] == [31.0, 32.0]
    assert history["load"][NIGHT - start :] == [40_000.0, None, 41_000.0]
    assert history["price_forecast"] == [None] * (NIGHT + 3 - start) + [33.0]
    assert (asked["hour"], asked["now"]) == ("2022-01-31T07:00Z", "2022-01-31T05:00Z")
    assert (asked["state_of_charge"], asked["awards"]) == (12.5, {"2022-01-31T06:00Z": -3.0})
    assert asked["market"] == {"floor": -150.0, "cap": 2000.0, "least_mw": 0.1, "most_segments": 10}
    assert asked["asset"]["charge_efficiency"] == 0.85
    assert asked["day_ahead"] is None


def test_forecast_of_a_closed_day_is_the_frozen_one() -> None:
    # given forecasts that this run and a later run made final, and the forecast in the dataset
    class Frozen:
        def days(self, location: str, first: str, last: str) -> dict[str, dict[str, str | int]]:
            cells = {"f06": "50.0", "g06": NIGHT, "f07": "60.0", "g07": NIGHT + 1, "h05": "1.0,,,"}
            return {"2022-01-31": cells}

    world = World()
    named = f"price_forecast:{LOCATION}"
    world.ahead.known = {named: {hours.text(NIGHT + 1): 1.0, hours.text(NIGHT + 2): 2.0}}
    values = readings.gathered(Frozen(), world.ahead, LOCATION, NIGHT, 1)
    # then the final forecast is used, unless a later run made it final
    assert values["price_forecast"] == {NIGHT + 1: 50.0, NIGHT + 2: 2.0}


def test_bids_are_written_as_parquet_for_each_offer() -> None:
    world = World()
    make_bids(world.desk, NIGHT, 1, ASSET)
    body = world.files["bids/date=2022-01-31/hour=07/RT-battery.parquet"]
    rows = pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()
    kept = {
        "hour_utc": "2022-01-31T07:00Z",
        "market": "RT",
        "location": LOCATION,
        "asset": ASSET,
        "source": "model",
    }
    assert rows == [
        {"made": "2022-01-31T05:15:00Z", **kept, "segment": 0, "mw": 0.0, "price": -150.0},
        {"made": "2022-01-31T05:15:00Z", **kept, "segment": 1, "mw": 5.0, "price": 41.0},
    ]


def test_forecast_of_the_open_day_is_kept() -> None:
    world = World("self_schedule", LAST)
    make_bids(world.desk, LAST, 1, ASSET)
    (kept,) = world.offers.kept.values()
    assert (kept.day, len(kept.prices), kept.model, kept.run) == ("2022-02-01", 24, "7", LAST)
    assert kept.start == hours.hours_of("2022-02-01", ZONE)[0]


def test_forecast_made_after_the_deadline_is_not_kept() -> None:
    world = World("self_schedule", LAST)
    world.clock.time = LAST + 3
    world.switch = "approve"
    with pytest.raises(MarketRefusedError, match="late"):
        make_bids(world.desk, LAST, 1, ASSET)
    assert world.offers.kept == {}


SCHEDULE_HOURS = [hours.text(hour) for hour in hours.hours_of("2022-02-01", ZONE)]


def schedule(mw: list[float]) -> list[dict[str, Any]]:
    padded = mw + [0.0] * (24 - len(mw))
    return [
        {"hour": hour, "segments": [[each, -150.0]]}
        for hour, each in zip(SCHEDULE_HOURS, padded, strict=True)
    ]


def real_time(segments: list) -> dict[str, Any]:
    return {"real_time": {"hour": "2022-01-31T15:00Z", "segments": segments}}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (real_time([[math.nan, 0.0]]), "finite"),
        (real_time([[0.0, 0.0], [5.0, -1.0]]), "price must increase"),
        (real_time([[0.0, 2001.0]]), "-150 to 2000"),
        (real_time([[8.0, 0.0], [9.0, 1.0]]), "-8 to 8"),
        (real_time([]), "at least one"),
        (real_time([[-8.0, 90.0], [8.0, 100.0]]), "highest charge price"),
        ({"real_time": {"hour": "2022-01-31T16:00Z", "segments": [[0.0, 0.0]]}}, "hours must be"),
        ({"real_time": None}, "cannot be read"),
        ({"day_ahead": None}, "hours must be"),
        ({"day_ahead": schedule([0.0])[1:]}, "hours must be"),
        ({"day_ahead": schedule([8.0] * 5)}, "no state of charge"),
        ({"day_ahead": schedule([-8.0] * 5)}, "no state of charge"),
        ({"forecast": {"start": SCHEDULE_HOURS[0], "price": [math.nan]}}, "finite"),
        ({"forecast": {"start": SCHEDULE_HOURS[0], "price": [2000.1]}}, "forecast: price"),
        ({"plan": {"hours": ["a"], "mw": [8.1], "state_of_charge": [1.0]}}, "plan: mw"),
        ({"plan": {"hours": ["a"], "mw": [1.0], "state_of_charge": [32.1]}}, "plan: state_of_charge"),
        ({"plan": {"hours": ["a"], "mw": [1.0], "state_of_charge": [math.inf]}}, "finite"),
        ({"plan": {"hours": ["a"], "mw": [], "state_of_charge": [1.0]}}, "the same length"),
        ({"model": ""}, "version"),
    ],
)
def test_invalid_response_of_the_model_is_not_offered(change: dict[str, Any], named: str) -> None:
    world = World("self_schedule", LAST)
    world.model.change = change
    with pytest.raises(ModelAnswerError) as raised:
        make_bids(world.desk, LAST, 1, ASSET)
    assert named in str(raised.value)
    assert (world.market.sent, world.offers.rows, world.files) == (0, {}, {})


@pytest.mark.parametrize(("level", "segments"), [(4.0, [[5.0, -150.0]]), (30.0, [[-5.0, -150.0]])])
def test_curve_that_the_state_of_charge_forbids_is_not_sent(level: float, segments: list) -> None:
    for mode in ("self_schedule", "curves", "managed_curves"):
        world = World(mode)
        world.market.known = Telemetry(level, {})
        world.model.change = {"real_time": {"hour": "2022-01-31T07:00Z", "segments": segments}}
        if mode == "managed_curves":  # the market manages the state of charge in this mode
            make_bids(world.desk, NIGHT, 1, ASSET)
            assert world.market.sent == 1
        else:
            with pytest.raises(ModelAnswerError, match="MWh allows"):
                make_bids(world.desk, NIGHT, 1, ASSET)
            assert world.market.sent == 0


def test_model_gets_no_awards_when_they_need_not_be_kept() -> None:
    world = World(keep_awards=False)
    world.market.known = Telemetry(12.5, {NIGHT + 1: -3.0})
    make_bids(world.desk, NIGHT, 1, ASSET)
    assert [asked["awards"] for asked in world.model.asked] == [{}]


@pytest.mark.parametrize(("mode", "sold"), [("curves", 0), ("managed_curves", 1)])
def test_day_ahead_schedule_of_curve_modes_must_be_possible(mode: Mode, sold: int) -> None:
    world = World(mode, LAST)
    world.model.change = {"day_ahead": schedule([8.0] * 5)}
    with contextlib.nullcontext() if sold else pytest.raises(ModelAnswerError, match="no state of charge"):
        make_bids(world.desk, LAST, 1, ASSET)
    assert bool(world.market.sent) == bool(sold)


def test_bids_fail_without_a_model_in_service() -> None:
    world = World()
    world.model.in_service = False
    with pytest.raises(ModelAnswerError, match="no model is in service"):
        make_bids(world.desk, NIGHT, 1, ASSET)


def test_throttled_endpoint_raises_its_own_error() -> None:
    world = World()
    world.model.throttled = 1
    with pytest.raises(EndpointThrottledError):
        make_bids(world.desk, NIGHT, 1, ASSET)
    make_bids(world.desk, NIGHT, 1, ASSET)
    assert world.market.sent == 1


def test_unknown_asset_is_named() -> None:
    with pytest.raises(ValueError, match="asset must be one of battery, got x"):
        make_bids(World().desk, NIGHT, 1, "x")


def row(hour: int, segments: tuple, market: Any = "RT", status: Any = "proposed") -> Offer:
    return Offer(ASSET, Slot(hour, market), hour - 2, segments, status, "model", "7", 1, "x")


def carried(world: World, rows: list[Offer], run: int = NIGHT) -> Telemetry:
    world.market.url = False
    for each in rows:
        world.offers.rows[ASSET, each.slot.key] = each
    values = readings.stored(world.past, LOCATION, run)
    return awards.telemetry(world.desk, ASSET, run, values)


def test_own_awards_carry_the_state_of_charge() -> None:
    # given a state of charge of 10 MWh four hours ago, and offers for some of the hours since then
    world = World()
    world.offers.put_level(ASSET, NIGHT - 3, 10.0)
    world.past.prices = {NIGHT - 3: 20.0, NIGHT - 1: 50.0, NIGHT: 10.0}
    offers = [
        row(NIGHT - 3, ((-4.0, -150.0), (0.0, 30.0))),  # charges 4 MW
        row(NIGHT - 1, ((0.0, -150.0), (5.0, 45.0))),  # sells 5 MW
        row(NIGHT, ((3.0, -150.0),), "DA"),  # sells 3 MW
        row(NIGHT + 1, ((1.0, -150.0),)),  # sells 1 MW at any price
        row(NIGHT + 4, ((2.0, -150.0),), "DA"),
    ]
    # when
    found = carried(world, offers)
    # then an hour without an offer does not change the state of charge, and the state after the last hour
    # with a known price is stored
    assert found.level == pytest.approx(10 + 3.4 - 5 - 3 - 1)
    assert found.awards == {NIGHT + 1: 1.0, NIGHT + 4: 2.0}
    assert world.offers.levels[ASSET, NIGHT + 1] == pytest.approx(10 + 3.4 - 5 - 3)


def test_real_time_offer_replaces_the_day_ahead_award() -> None:
    world = World()
    world.offers.put_level(ASSET, NIGHT, 10.0)
    found = carried(world, [row(NIGHT, ((3.0, -150.0),), "DA"), row(NIGHT, ((-2.0, -150.0),))])
    assert found.level == pytest.approx(10 + 1.7)


@pytest.mark.parametrize("status", ["stopped", "no_offer"])
def test_unsent_offers_do_not_change_the_state_of_charge(status: str) -> None:
    world = World()
    world.offers.put_level(ASSET, NIGHT, 10.0)
    assert carried(world, [row(NIGHT, ((3.0, -150.0),), status=status)]).level == 10.0


def test_repeated_run_carries_from_the_same_level() -> None:
    world = World()
    world.offers.put_level(ASSET, NIGHT, 10.0)
    offers = [row(NIGHT, ((3.0, -150.0),))]
    first = carried(world, offers)
    carried(world, offers, NIGHT + 1)
    assert carried(world, offers) == first


def test_asset_begins_empty_without_any_record() -> None:
    assert carried(World(), []).level == 0.0


def test_telemetry_is_kept_for_when_the_market_is_down() -> None:
    world = World()
    make_bids(world.desk, NIGHT, 1, ASSET)
    assert world.offers.levels == {(ASSET, TARGET): 16.0}
    world.market.down = 1
    values = readings.stored(world.past, LOCATION, TARGET)
    assert awards.telemetry_or_own(world.desk, ASSET, TARGET, values).level == 16.0


def test_digest_names_asset_hour_and_segments() -> None:
    first = row(NIGHT, ((3.0, -150.0),))
    others = [
        replace(first, asset="other"),
        replace(first, slot=Slot(NIGHT, "DA")),
        replace(first, curve=((3.0, -149.0),)),
    ]
    assert len({each.digest for each in [first, *others]}) == 4
    assert replace(first, made="later", version=9).digest == first.digest
    assert json.loads(json.dumps(first.digest)) == first.digest
