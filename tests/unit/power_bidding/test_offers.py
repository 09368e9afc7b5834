"""Deadlines of offers, and sending each exactly once: the stop switch, concurrent runs, killed runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from power_bidding.core import offers
from power_bidding.core.bid_ports import MarketDownError, MarketRefusedError
from power_bidding.core.bidding import make_bids
from power_bidding.core.fallback import fall_back
from power_bidding.core.offers import Slot
from power_bidding.core.release import release
from power_feeds import hours
from tests.support.power_bidding.desks import ASSET, LAST, NIGHT, SETTINGS, ZONE, World
from tests.support.turns import Killed

TARGET = NIGHT + 2
hour_numbers = st.integers(hours.parse("2021-01-01T00:00Z"), hours.parse("2023-12-31T00:00Z"))


def test_real_time_offer_is_due_75_minutes_before_its_hour() -> None:
    assert offers.due(Slot(TARGET, "RT"), SETTINGS) == TARGET - 1.25 == NIGHT + 0.75


@pytest.mark.parametrize(
    ("day", "deadline", "length"),
    [
        ("2022-01-31", "2022-01-30T16:00Z", 24),
        ("2022-03-13", "2022-03-12T16:00Z", 23),
        ("2022-03-14", "2022-03-13T15:00Z", 24),
        ("2022-11-06", "2022-11-05T15:00Z", 25),
        ("2022-11-07", "2022-11-06T16:00Z", 24),
    ],
)
def test_day_ahead_offers_are_due_at_ten_local_time(day: str, deadline: str, length: int) -> None:
    whole = hours.hours_of(day, ZONE)
    assert len(whole) == length
    assert {offers.due(Slot(hour, "DA"), SETTINGS) for hour in whole} == {hours.parse(deadline)}


@given(hour_numbers)
def test_run_makes_offers_not_due_within_its_hour_only(run: int) -> None:
    for slot in offers.slots(run, SETTINGS):
        assert offers.due(slot, SETTINGS) >= (run + 0.75 if slot.market == "RT" else run + 1)


@given(hour_numbers)
def test_each_slot_is_sent_by_exactly_one_run(run: int) -> None:
    slots = {*offers.slots(run, SETTINGS)}
    for slot in slots:
        senders = [
            other
            for other in range(run - 30, run + 30)
            if slot in offers.slots(other, SETTINGS) and offers.sends(other, slot, SETTINGS)
        ]
        assert len(senders) == 1


def test_day_ahead_offers_of_a_long_day_are_25() -> None:
    run = hours.parse("2022-11-05T12:00Z")
    assert [slot.market for slot in offers.slots(run, SETTINGS)].count("DA") == 25


def test_bids_are_sent_once_when_the_switch_is_go() -> None:
    world = World()
    report = make_bids(world.desk, NIGHT, 1, ASSET)
    row = world.row(TARGET)
    assert row
    assert row.status == "sent"
    assert world.market.accepted == {(ASSET, row.slot.key): replace(row, status="proposed", sent="")}
    assert report["offers"] == [
        {"offer": "2022-01-31T07:00Z#RT", "status": "sent", "source": "model", "reason": ""}
    ]
    # when the bids run again, nothing changes
    make_bids(world.desk, NIGHT, 2, ASSET)
    assert (world.row(TARGET), world.market.sent, world.model.calls) == (row, 1, 1)


def test_no_offer_is_sent_when_the_switch_is_stop() -> None:
    world = World()
    world.switch = "stop"
    make_bids(world.desk, NIGHT, 1, ASSET)
    fall_back(world.desk, NIGHT, ASSET, "whatever")
    with pytest.raises(ValueError, match="the switch is stop"):
        release(world.desk, NIGHT)
    row = world.row(TARGET)
    assert (row and row.status, world.market.sent) == ("stopped", 0)
    # when the operator resets the switch and runs the hour again
    world.switch = "go"
    make_bids(world.desk, NIGHT, 1, ASSET)
    assert list(world.market.accepted) == [(ASSET, "2022-01-31T07:00Z#RT")]


def test_offer_marked_by_a_killed_run_survives_a_stop() -> None:
    # given a run that was killed after it marked the offer as being sent, before the market got it
    world = World()
    world.turns.run([lambda: make_bids(world.desk, NIGHT, 1, ASSET)], [], [(0, 4)])
    row = world.row(TARGET)
    assert row
    assert (row.tried, world.market.sent) == ("2022-01-31T05:15:00Z", 0)
    # when the switch is set to `stop`, and then to `go` again
    world.switch = "stop"
    make_bids(world.desk, NIGHT, 1, ASSET)
    assert world.market.sent == 0
    world.switch = "go"
    make_bids(world.desk, NIGHT, 1, ASSET)
    assert world.market.accepted[ASSET, row.slot.key].digest == row.digest


def test_offers_wait_for_release_when_the_switch_is_approve() -> None:
    world = World()
    world.switch = "approve"
    make_bids(world.desk, NIGHT, 1, ASSET)
    assert (world.market.sent, world.row(TARGET).status) == (0, "proposed")  # type: ignore[union-attr]
    assert release(world.desk, NIGHT)["sent"] == [f"{ASSET} 2022-01-31T07:00Z#RT"]
    assert (world.market.sent, world.row(TARGET).status) == (1, "sent")  # type: ignore[union-attr]


def test_release_refuses_late_offers_by_name() -> None:
    world = World()
    world.switch = "approve"
    make_bids(world.desk, NIGHT, 1, ASSET)
    world.clock.time = NIGHT + 0.75
    done = release(world.desk, NIGHT)
    assert done["sent"] == []
    assert done["refused"] == [
        {
            "asset": ASSET,
            "offer": "2022-01-31T07:00Z#RT",
            "reason": "late: it was due at 2022-01-31T05:45:00Z",
        }
    ]
    row = world.row(TARGET)
    assert (row and row.status, world.market.sent) == ("no_offer", 0)


def test_newer_dataset_replaces_an_offer_that_has_not_left() -> None:
    world = World()
    world.switch = "approve"
    make_bids(world.desk, NIGHT, 1, ASSET)
    before = world.row(TARGET)
    make_bids(world.desk, NIGHT, 1, ASSET)
    assert world.row(TARGET) == before
    make_bids(world.desk, NIGHT, 2, ASSET)
    after = world.row(TARGET)
    assert before
    assert after
    assert before.curve != after.curve
    assert after.version == 2
    # an older dataset does not replace the offer
    make_bids(world.desk, NIGHT, 1, ASSET)
    assert world.row(TARGET) == after


def test_offer_without_a_response_is_sent_again_unchanged() -> None:
    # given an offer that the market accepts, and whose response is lost
    world = World()
    world.market.down = -1
    with pytest.raises(MarketDownError):
        make_bids(world.desk, NIGHT, 1, ASSET)
    before = world.row(TARGET)
    # when there is a newer dataset
    make_bids(world.desk, NIGHT, 2, ASSET)
    # then the same offer is sent again, and is the one that the market has accepted
    row = world.row(TARGET)
    assert row
    assert before
    assert (row.curve, row.status) == (before.curve, "sent")
    assert world.market.accepted[ASSET, row.slot.key].digest == row.digest


def test_refused_offer_keeps_the_reason() -> None:
    world = World()
    world.market.refuses = {"model"}
    for _ in range(2):
        with pytest.raises(MarketRefusedError, match="invalid"):
            make_bids(world.desk, NIGHT, 1, ASSET)
    row = world.row(TARGET)
    assert row
    assert (row.status, row.reason, row.refused) == ("proposed", "invalid", row.digest)
    assert world.market.sent == 1


def test_offers_stay_proposed_without_a_market() -> None:
    world = World()
    world.market.url = False
    world.offers.put_level(ASSET, NIGHT, 16.0)
    make_bids(world.desk, NIGHT, 1, ASSET)
    assert (world.market.sent, world.row(TARGET).status) == (0, "proposed")  # type: ignore[union-attr]


def test_day_ahead_offers_leave_with_the_last_run_only() -> None:
    world = World("self_schedule", LAST - 1)
    world.clock.time = LAST - 0.75
    make_bids(world.desk, LAST - 1, 1, ASSET)
    assert [key for _, key in world.market.accepted] == ["2022-01-31T14:00Z#RT"]
    world.clock.time = LAST + 0.25
    make_bids(world.desk, LAST, 1, ASSET)
    day = [Slot(hour, "DA").key for hour in hours.hours_of("2022-02-01", ZONE)]
    assert [key for _, key in world.market.accepted if key.endswith("DA")] == day
    assert [row.run for row in world.offers.rows.values() if row.slot.market == "DA"] == [LAST] * 24


def works(world: World, kinds: list[str]) -> list:
    make = {
        "bids": lambda: make_bids(world.desk, NIGHT, 1, ASSET),
        "newer": lambda: make_bids(world.desk, NIGHT, 2, ASSET),
        "fall back": lambda: fall_back(world.desk, NIGHT, ASSET, "a failure"),
        "release": lambda: release(world.desk, NIGHT),
        "stopped bids": lambda: stopped_bids(world),
    }
    return [make[kind] for kind in kinds]


def stopped_bids(world: World) -> None:
    """Set the switch to stop while other workers run, then run the bids."""
    world.switch = "stop"
    make_bids(world.desk, NIGHT, 1, ASSET)


def check_one_offer(world: World) -> None:
    """Check that the market has at most one offer for the hour, and that the table agrees."""
    row = world.row(TARGET)
    accepted = world.market.accepted.get((ASSET, Slot(TARGET, "RT").key))
    if accepted:
        assert row
        assert (row.digest, row.status) == (accepted.digest, "sent")
    else:
        assert row
        assert row.status != "sent"
    finals = [each for each in world.offers.written if each.final]
    assert len(finals) <= 1
    assert not finals or finals[0] == row


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["bids", "newer", "fall back", "release"]), min_size=2, max_size=3),
    st.lists(st.integers(0, 2), max_size=60),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), max_size=3),
    st.sampled_from([0, 0, 1, -1]),
    st.sampled_from([{}, {"model"}]),
)
def test_exactly_one_offer_is_sent_by_interleaved_and_killed_runs(
    kinds: list[str], schedule: list[int], kill: list, down: int, refuses: set[str]
) -> None:
    # given runs for the same hour that interleave in any order, some of them killed after any write
    world = World()
    world.market.down, world.market.refuses = down, refuses
    results = world.turns.run(works(world, kinds), schedule, kill)
    bugs = [each for each in results if isinstance(each, Exception)]
    assert all(isinstance(each, MarketDownError | MarketRefusedError) for each in bugs), bugs
    assert len(world.market.accepted) <= 1
    # when the state machine continues: it runs the bids again, and a fallback if they fail
    world.market.down = 0
    try:
        make_bids(world.desk, NIGHT, 1, ASSET)
    except MarketRefusedError as error:
        fall_back(world.desk, NIGHT, ASSET, str(error))
    check_one_offer(world)
    row = world.row(TARGET)
    assert row
    assert row.final
    assert row.status == "sent" or refuses or "fall back" in kinds


TURNS = 16
"""More than the number of calls that a run makes."""


@pytest.mark.parametrize(
    "kinds", [["bids", "fall back"], ["fall back", "bids"], ["bids", "newer"], ["bids", "stopped bids"]]
)
def test_one_offer_is_sent_wherever_another_run_interleaves(kinds: list[str]) -> None:
    # given two runs: after any number of its calls, the first is interrupted by the second, which makes any
    # number of calls before the first continues
    for first in range(TURNS):
        for second in range(1, TURNS):
            world = World()
            world.turns.run(works(world, kinds), [0] * first + [1] * second + [0] * 99)
            # then the table agrees with the market
            check_one_offer(world)


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12))
def test_killed_run_sends_the_same_offer_once(first: int, second: int) -> None:
    # given a run that is killed after any of its writes, and killed again at the next attempt
    world = World()
    for at in (first, second):
        world.turns.run(works(world, ["bids"]), [], [(0, at)])
    make_bids(world.desk, NIGHT, 1, ASSET)
    check_one_offer(world)
    assert len(world.market.accepted) == 1


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(["bids", "newer", "fall back"]), min_size=1, max_size=3),
    st.lists(st.integers(0, 2), max_size=60),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), max_size=3),
)
def test_no_offer_is_sent_while_stopped_by_interleaved_runs(
    kinds: list[str], schedule: list[int], kill: list
) -> None:
    world = World()
    world.switch = "stop"
    world.turns.run(works(world, kinds), schedule, kill)
    assert world.market.sent == 0


def test_kill_ends_a_worker_without_running_handlers() -> None:
    # a test of the helper `Turns`: a kill ends the function without running its exception handlers
    world = World()
    (result,) = world.turns.run(works(world, ["bids"]), [], [(0, 1)])
    assert isinstance(result, Killed)
