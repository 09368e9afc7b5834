"""Each failure of a run ends in an offer of the latest curve for the same hour, or in a no-offer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from power_bidding.core.bid_ports import (
    EndpointThrottledError,
    MarketDownError,
    MarketRefusedError,
    ModelAnswerError,
    Telemetry,
)
from power_bidding.core.bidding import make_bids
from power_bidding.core.fallback import fall_back
from power_bidding.core.offers import Offer, Slot
from power_feeds import hours
from tests.support.power_bidding.desks import ASSET, LAST, NIGHT, SETTINGS, ZONE, World

TARGET = NIGHT + 2
DAY = hours.hours_of("2022-02-01", ZONE)


def day_ahead(world: World, mw: float, status: Any = "sent", hour: int = TARGET) -> Offer:
    """Put a day-ahead offer of an earlier run into the table."""
    row = Offer(ASSET, Slot(hour, "DA"), hour - 20, ((mw, -150.0),), status, "model", "6", 1, "earlier")
    world.offers.rows[ASSET, row.slot.key] = row
    return row


def no_model(world: World) -> None:
    world.model.in_service = False


def throttled(world: World) -> None:
    world.model.throttled = 9


def not_a_number(world: World) -> None:
    world.model.change = {"real_time": {"hour": hours.text(TARGET), "segments": [[float("nan"), 0.0]]}}


def forbidden(world: World) -> None:
    world.market.known = Telemetry(4.0, {})


def refused(world: World) -> None:
    world.market.refuses = {"model"}


FAILURES = {
    no_model: ModelAnswerError,
    throttled: EndpointThrottledError,
    not_a_number: ModelAnswerError,
    forbidden: ModelAnswerError,
    refused: MarketRefusedError,
}


@pytest.mark.parametrize(("fail", "error"), FAILURES.items(), ids=lambda each: getattr(each, "__name__", ""))
@pytest.mark.parametrize("award", [True, False])
def test_failure_ends_in_the_latest_curve_or_no_offer(fail: Any, error: Any, award: bool) -> None:
    # given a failure, and an hour with or without a day-ahead award
    world = World()
    fail(world)
    if award:
        day_ahead(world, 3.0)
    with pytest.raises(error) as raised:
        make_bids(world.desk, NIGHT, 1, ASSET)
    # when
    fall_back(world.desk, NIGHT, ASSET, str(raised.value))
    # then
    row = world.row(TARGET)
    assert row
    assert world.counts == {"FallbackHours": float(award), "NoOfferHours": float(not award)}
    if award:
        assert (row.status, row.source, row.curve) == ("sent", "fallback", ((3.0, -150.0),))
        assert world.market.accepted[ASSET, row.slot.key].digest == row.digest
    else:
        assert (row.status, row.source, row.curve) == ("no_offer", "none", ())
        assert str(raised.value) in row.reason
        assert world.market.accepted == {}
    # a repeated fallback changes nothing
    sent = world.market.sent
    fall_back(world.desk, NIGHT, ASSET, "again")
    assert (world.row(TARGET), world.market.sent) == (row, sent)


@pytest.mark.parametrize(("level", "mw"), [(2.9, 3.0), (31.0, -3.0)])
def test_fallback_that_the_state_of_charge_forbids_is_no_offer(level: float, mw: float) -> None:
    world = World()
    world.market.known = Telemetry(level, {})
    day_ahead(world, mw)
    fall_back(world.desk, NIGHT, ASSET, "x")
    row = world.row(TARGET)
    assert row
    assert (row.status, world.market.sent) == ("no_offer", 0)


def test_any_fallback_is_sent_when_the_market_manages_charge() -> None:
    world = World("managed_curves")
    world.market.known = Telemetry(2.9, {})
    day_ahead(world, 3.0)
    fall_back(world.desk, NIGHT, ASSET, "x")
    assert world.row(TARGET).status == "sent"  # type: ignore[union-attr]


def test_curve_for_another_hour_is_never_used() -> None:
    world = World()
    day_ahead(world, 3.0, hour=TARGET - 1)
    day_ahead(world, 3.0, hour=TARGET + 1)
    fall_back(world.desk, NIGHT, ASSET, "x")
    assert world.row(TARGET).status == "no_offer"  # type: ignore[union-attr]


def test_offer_that_waits_for_release_is_left_to_the_operator() -> None:
    world = World()
    world.switch = "approve"
    make_bids(world.desk, NIGHT, 1, ASSET)
    before = world.row(TARGET)
    fall_back(world.desk, NIGHT, ASSET, "x")
    assert (world.row(TARGET), world.market.sent) == (before, 0)


def test_offer_of_a_killed_run_is_sent_unchanged() -> None:
    # given a run that was killed after its first write
    world = World()
    world.turns.run([lambda: make_bids(world.desk, NIGHT, 1, ASSET)], [], [(0, 2)])
    before = world.row(TARGET)
    assert before
    assert world.market.sent == 0
    # when
    fall_back(world.desk, NIGHT, ASSET, "killed")
    # then
    row = world.row(TARGET)
    assert row
    assert (row.status, row.source, row.curve) == ("sent", "model", before.curve)


def test_request_to_the_market_is_retried_until_the_deadline() -> None:
    # given a market that does not respond to an offer
    world = World()
    world.market.down = 99
    world.offers.put_level(ASSET, NIGHT, 16.0)
    day_ahead(world, 3.0)
    with pytest.raises(MarketDownError):
        fall_back(world.desk, NIGHT, ASSET, "x")
    before = world.row(TARGET)
    assert before
    assert (before.status, bool(before.tried)) == ("proposed", True)
    # when the deadline passes
    world.clock.time = NIGHT + 0.75
    fall_back(world.desk, NIGHT, ASSET, "x")
    # then the hour has a no-offer, and its reason says that the state of the offer is unknown
    row = world.row(TARGET)
    assert row
    assert row.status == "no_offer"
    assert f"the market may have the offer {before.digest}" in row.reason


def test_lost_market_response_is_resolved_after_the_deadline() -> None:
    world = World()
    world.market.down = -1
    with pytest.raises(MarketDownError):
        make_bids(world.desk, NIGHT, 1, ASSET)
    world.clock.time = NIGHT + 0.9
    fall_back(world.desk, NIGHT, ASSET, "x")
    assert world.row(TARGET).status == "sent"  # type: ignore[union-attr]


def test_late_run_makes_no_offer() -> None:
    world = World()
    world.clock.time = NIGHT + 0.75
    with pytest.raises(MarketRefusedError, match="late: it was due"):
        make_bids(world.desk, NIGHT, 1, ASSET)
    fall_back(world.desk, NIGHT, ASSET, "late")
    row = world.row(TARGET)
    assert row
    assert (row.status, world.market.sent) == ("no_offer", 0)
    assert "late: it was due at 2022-01-31T05:45:00Z" in row.reason


@pytest.mark.parametrize("run", [LAST - 1, LAST])
def test_closed_day_ahead_market_keeps_no_real_time_offer_back(run: int) -> None:
    # given a run after the day-ahead deadline, but before the deadline of its real-time offer
    world, ours = World("self_schedule", run), run + 18
    world.clock.time = run + 6
    desk = replace(world.desk, settings=replace(SETTINGS, lead_hours=18))
    # when
    if run == LAST:
        with pytest.raises(MarketRefusedError, match="late: it was due"):
            make_bids(desk, run, 1, ASSET)
        fall_back(desk, run, ASSET, "late")
    else:
        make_bids(desk, run, 1, ASSET)
    # then the model gets a request for the real-time offer only, and that offer is sent
    (asked,) = world.model.asked
    assert asked["day_ahead"] is None
    assert [offer.slot for offer in world.market.accepted.values()] == [Slot(ours, "RT")]
    # and only the run that should have sent the day-ahead offers records no-offers for that day
    rows = [world.row(hour, "DA") for hour in DAY]
    assert {row and row.status for row in rows} == {"no_offer" if run == LAST else None}


def test_day_ahead_falls_back_to_the_run_before() -> None:
    # given day-ahead offers of the previous run
    world = World("self_schedule", LAST - 1)
    make_bids(world.desk, LAST - 1, 1, ASSET)
    world.clock.time = LAST + 0.25
    no_model(world)
    # when the last run before the deadline fails
    fall_back(world.desk, LAST, ASSET, "no model")
    # then the offers of the previous run are sent
    rows = [world.row(hour, "DA") for hour in DAY]
    assert {(row.status, row.source) for row in rows if row} == {("sent", "fallback")}
    assert world.counts == {"FallbackHours": 24, "NoOfferHours": 1}


def test_day_ahead_fallback_must_be_possible_as_a_whole() -> None:
    # given five day-ahead offers of 8 MWh, each of which is possible, but not all of them together
    world = World("self_schedule", LAST)
    for hour in DAY[:5]:
        day_ahead(world, 8.0, "proposed", hour)
    fall_back(world.desk, LAST, ASSET, "x")
    # then only as many offers are sent as the battery can deliver
    sent = [hour for hour in DAY if world.row(hour, "DA").status == "sent"]  # type: ignore[union-attr]
    assert sent == [*DAY[1:5]]


def test_run_that_only_prepares_settles_nothing_day_ahead() -> None:
    world = World("self_schedule", LAST - 1)
    fall_back(world.desk, LAST - 1, ASSET, "x")
    assert {key for _, key in world.offers.rows} == {"2022-01-31T14:00Z#RT"}
