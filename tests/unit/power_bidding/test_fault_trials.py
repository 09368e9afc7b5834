"""The benchmark with faults: its trials, and its evaluation of the resulting offers."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import pytest
import urllib3

from benchmarks.power_bidding.faults import feeds
from benchmarks.power_bidding.faults.no_offers import NoOffers, counted
from benchmarks.power_bidding.faults.outcomes import (
    FALLBACK,
    LOST,
    MODEL,
    NO_OFFER,
    Hour,
    disagrees,
    missing,
    outcome,
    settle,
    table,
)
from benchmarks.power_bidding.faults.plan import (
    ALONE,
    ATTEMPTS,
    FEED_KINDS,
    HOURS,
    KINDS,
    LANES,
    PIPELINE,
    WAITED_FOR,
    Queue,
    Trial,
    TrialFault,
    plan,
)
from local.feeds.faults import FEEDS
from local.feeds.faults import KINDS as SERVED
from scenarios.power_bidding.replay import FeedServer
from tests.support.power_bidding.feeds import replay

DUE = datetime(2024, 9, 10, 20, 45, tzinfo=UTC)
RUN, OFFERED = "2024-09-10T04:00Z", "2024-09-10T22:00Z"
DOWN, LATE = TrialFault("down", "load"), TrialFault("late", "weather")


def chance() -> random.Random:
    return random.Random(1)


def row(status: str, source: str = "model", made: str = "2024-09-10T20:00:00Z") -> dict[str, str]:
    return {"offer": f"{OFFERED}#RT", "status": status, "source": source, "made": made}


@pytest.mark.parametrize("together", [1, 2, 4])
def test_plan_has_each_fault_five_times_and_feeds_once_hourly(together: int):
    trials = plan(KINDS, 5, together, chance())
    counts = Counter(fault.name for trial in trials for fault in trial.faults)
    assert set(counts.values()) == {5}
    assert len(counts) == len(FEEDS) * len(FEED_KINDS) + len(KINDS) - len(FEED_KINDS)
    for trial in trials:
        named = [fault.feed for fault in trial.faults if fault.feed]
        assert len(set(named)) == len(named) == (together if trial.faults[0].feed else 0)


def test_plan_of_a_seed_is_the_same_again():
    assert plan(KINDS, 3, 4, chance()) == plan(KINDS, 3, 4, chance())
    assert plan(KINDS, 3, 4, chance()) != plan(KINDS, 3, 4, random.Random(2))


def test_feeds_that_are_waited_for_share_their_hours():
    for trial in plan(FEED_KINDS, 4, 4, chance()):
        kinds = {fault.kind for fault in trial.faults}
        assert len(kinds) == 1 or not kinds & set(WAITED_FOR)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("kind", FEED_KINDS)
def test_server_supports_each_fault_of_a_feed(feed: str, kind: str):
    assert {feeds.served(TrialFault(kind, feed, variant)) for variant in range(3)} <= set(SERVED)


def test_queue_returns_trials_of_free_lanes_only():
    # given
    stopped, killed = Trial((TrialFault("stopped"),)), Trial((TrialFault("killed"),))
    queue = Queue([stopped, killed, Trial((DOWN,))], chance())
    # then
    assert (stopped.lane, killed.lane) == (PIPELINE, ALONE)
    assert queue.next([HOURS]).faults == (DOWN,)
    assert queue.next([HOURS]) == Trial()
    assert {queue.next(LANES), queue.next(LANES)} == {stopped, killed}
    assert len(queue) == 0


def test_fault_that_did_not_occur_is_retried_with_a_limit():
    queue, trial = Queue([], chance()), Trial((DOWN, LATE))
    for attempt in range(2, ATTEMPTS + 1):
        queue.again(trial, [LATE])
        trial = queue.next(LANES)
        assert (trial.faults, trial.attempt) == ((LATE,), attempt)
    queue.again(trial, [LATE])
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("given", "at_market", "expected"),
    [
        (row("sent"), True, MODEL),
        (row("sent", "fallback"), True, FALLBACK),
        (row("proposed", "fallback"), True, FALLBACK),
        (row("no_offer"), False, NO_OFFER),
        (row("no_offer", made="2024-09-10T20:46:00Z"), False, LOST),
        (row("proposed"), False, LOST),
        (row("sent"), False, LOST),
        (None, False, LOST),
    ],
)
def test_outcome_follows_the_markets_offers_and_punctual_no_offers(
    given: dict[str, str] | None, at_market: bool, expected: str
):
    assert outcome(given, at_market, DUE) == expected


@pytest.mark.parametrize(
    ("given", "at_market", "expected"),
    [
        (row("sent"), True, False),
        (row("sent"), False, True),
        (row("no_offer"), True, True),
        (row("no_offer"), False, False),
        (None, False, False),
    ],
)
def test_disagrees_compares_a_row_with_the_market(
    given: dict[str, str] | None, at_market: bool, expected: bool
):
    assert disagrees(given, at_market) is expected


def results(*offered: str, doubles: int = 0) -> dict:
    refused = [{"hour": OFFERED, "market": "RT", "kind": kind} for kind in ["late"] + ["double"] * doubles]
    return {"offers": [{"hour": hour, "market": "RT"} for hour in offered], "refused": refused}


def test_table_counts_each_struck_fault_of_an_hour():
    # given an hour with two faults, of which one occurred, and an hour without faults
    hour = Hour(Trial((DOWN, LATE)), RUN, OFFERED, DUE, missed=[LATE], flagged=True)
    plain = Hour(Trial(), "2024-09-10T05:00Z", "2024-09-10T23:00Z", DUE)
    # when
    wrong = settle([hour, plain], [row("sent")], results(OFFERED, doubles=2))
    rows = {each.name: each for each in table([hour, plain], ("down", "late"))}
    # then
    assert wrong == 0
    down, none = rows["load down"], rows["none"]
    assert (down.hours, down.outcomes, down.doubles, down.flagged) == (1, {MODEL: 1}, 2, 1)
    assert (none.hours, none.outcomes) == (1, {LOST: 1})
    assert rows["weather late"].hours == 0
    assert len(missing(rows.values(), 1)) == len(rows) - 2
    assert missing([down], 2) == ["load down was effective in 1 hours, must be 2"]


def test_no_offer_that_is_not_counted_has_no_alarm(monkeypatch: pytest.MonkeyPatch):
    # given two earlier no-offers, and three further no-offers of which the metric counts two
    monkeypatch.setattr("benchmarks.power_bidding.faults.no_offers.METRIC_SECONDS", 0)
    counts = iter([2, 4])
    monkeypatch.setattr(NoOffers, "_count", lambda self: next(counts))

    class Desk:
        said = 2

        def rows(self) -> list[dict[str, str]]:
            return [row("no_offer")] * self.said

    desk = Desk()
    before = NoOffers(desk)  # type: ignore[arg-type]
    desk.said = 5
    assert NoOffers(desk).unalarmed(before) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"_aws": {}, "NoOfferHours": [1.0, 2.0]}', 3),
        ('{"_aws": {}, "FallbackHours": [1.0]}', 0),
        ('{"message": "fallen back", "NoOfferHours": [1.0]}', 0),
        ("REPORT RequestId: 1", 0),
        ("7", 0),
    ],
)
def test_metric_of_a_log_line_is_counted(line: str, expected: int):
    assert counted(line) == expected


def test_fault_that_no_answer_showed_is_missed():
    # given a trial with two faults, and requests to only one of the two feeds
    with replay(RUN) as server:
        control = FeedServer(server.url, server.control_key, server.secret())
        given = feeds.FeedFaults(control, "HB_NORTH", chance())
        hour = Hour(Trial((DOWN, LATE)), RUN, OFFERED, DUE)
        given.begin(hour)
        asked = "start_hour=2024-09-10T03:00&end_hour=2024-09-10T05:00"
        url = f"{server.url}/v1/forecast?{asked}&apikey={server.keys.weather}"
        assert urllib3.request("GET", url, timeout=10).json()["hourly"]["time"] == ["2024-09-10T03:00"]
        # when
        given.end(hour)
        # then
        assert hour.missed == [DOWN]
        assert server.world.faults.all == []
