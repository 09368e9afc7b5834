"""Offers over HTTP: a day's schedule, curves, and refusals that name the field."""

from __future__ import annotations

import json
import math
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.power_bidding import images, prices
from tests.support.power_bidding.images import Job, Server

ROWS = prices.rows()
LAST = prices.DAYS - 1
"""Number of days of prices in a request, one less than in the history on which the model was trained."""
DAY = ROWS[prices.begin(LAST) :][:24]
"""Rows of the requested day"""


def asked(server: Server, **change: Any) -> Any:
    status, answer = server.ask(prices.request(ROWS, LAST, **change))
    assert status == 200, answer
    return answer


def test_schedule_of_the_next_day_earns_from_the_price_spread(server: Server) -> None:
    # given a request for a day whose prices the caller's history does not contain
    answer = asked(server)
    # when the self-schedule in the response is settled at the prices of the day
    offers = answer["day_ahead"]
    assert [offer["hour"] for offer in offers] == [prices.hour(prices.begin(LAST) + k) for k in range(24)]
    net = [offer["segments"][0][0] for offer in offers]
    assert all(offer["segments"] == [[mw, -150.0]] for offer, mw in zip(offers, net, strict=True))
    earned = sum(mw * row["price"] for mw, row in zip(net, DAY, strict=True))
    # then the schedule earns more than 800 dollars, and uses the full power in both directions
    assert earned > 800
    assert min(net) == -8
    assert max(net) == 8
    # and the forecast is near the day's prices
    assert answer["forecast"]["start"] == prices.hour(prices.begin(LAST))
    errors = [abs(price - row["price"]) for price, row in zip(answer["forecast"]["price"], DAY, strict=True)]
    assert sum(errors) / 24 < 5
    assert answer["model"].startswith(prices.hour(24 * prices.DAYS))


def test_plan_begins_with_the_state_of_charge(server: Server) -> None:
    # given a battery with 12 MWh, and an award for the requested hour
    answer = asked(server, awards={prices.hour(prices.begin(LAST - 1) + 10): 3.0})
    # then the plan starts at 12 MWh, and the self-schedule of the hour is the award
    plan = answer["plan"]
    first = plan["mw"][0]
    stored = -0.85 * first if first < 0 else -first
    assert plan["state_of_charge"][0] == pytest.approx(12 + stored, abs=1e-3)
    assert answer["real_time"]["segments"] == [[3.0, -150.0]]
    # and an award that the battery cannot deliver is reduced
    empty = asked(server, state_of_charge=0.05, awards={prices.hour(prices.begin(LAST - 1) + 10): 3.0})
    assert empty["real_time"]["segments"] == [[0.0, -150.0]]


@pytest.mark.parametrize("mode", ["curves", "managed_curves"])
def test_curves_increase_within_floor_and_cap(server: Server, mode: str) -> None:
    answer = asked(server, mode=mode)
    for offer in [answer["real_time"], *answer["day_ahead"]]:
        quantities, costs = zip(*offer["segments"], strict=True)
        assert list(quantities) == sorted(set(quantities))
        assert list(costs) == sorted(set(costs))
        assert -8 <= quantities[0] <= quantities[-1] <= 8
        assert -150 <= costs[0] <= costs[-1] <= 2000


def test_day_ahead_offers_of_curve_modes_are_the_schedule(server: Server) -> None:
    found = [asked(server, mode=mode)["day_ahead"] for mode in ("curves", "self_schedule")]
    assert found[0] == found[1]
    assert all(len(offer["segments"]) == 1 for offer in found[0])
    # and these offers sell at most the energy of a full battery plus the energy bought before
    charge = 32.0
    for offer in found[0]:
        mw = offer["segments"][0][0]
        charge -= mw if mw > 0 else 0.85 * mw
        assert charge >= -1e-6


def test_day_ahead_offers_of_an_empty_store_sell_only_purchases(server: Server) -> None:
    # given a requested real-time hour after the start of the day for which day-ahead offers are made
    hour = prices.hour(prices.begin(LAST) + 1)
    # when the battery is empty at that hour
    offers = asked(server, hour=hour, state_of_charge=0.0)["day_ahead"]
    # then the day's schedule starts with an empty battery too
    charge = 0.0
    for offer in offers:
        mw = offer["segments"][0][0]
        charge -= mw if mw > 0 else 0.85 * mw
        assert charge >= -1e-6


@pytest.mark.parametrize(("mode", "most"), [("curves", 1.0), ("managed_curves", 8.0)])
def test_curve_is_limited_when_the_market_ignores_state_of_charge(
    server: Server, mode: str, most: float
) -> None:
    answer = asked(server, mode=mode, state_of_charge=1.0)
    assert answer["real_time"]["segments"][-1][0] == most


@pytest.mark.parametrize(("days", "hours"), [(71, 23), (72, 24)])
def test_day_of_daylight_saving_has_its_hours(server: Server, days: int, hours: int) -> None:
    status, answer = server.ask(prices.request(ROWS, days))
    assert status == 200, answer
    assert len(answer["day_ahead"]) == hours


def test_hours_that_are_published_are_not_forecast(server: Server) -> None:
    # given a request for a day whose prices are published up to 3:00
    body = prices.request(ROWS, LAST, day_ahead=None)
    body["history"]["price"] = [row["price"] for row in ROWS[: prices.begin(LAST) + 3]]
    status, answer = server.ask(body)
    # then the hours up to 3:00 have the published prices, and the response has no day-ahead offers
    assert (status, answer["day_ahead"]) == (200, None)
    assert answer["forecast"]["price"][:3] == body["history"]["price"][-3:]


def test_answer_does_not_change_with_the_order_of_requests(server: Server) -> None:
    first = asked(server)
    asked(server, mode="curves", state_of_charge=30)
    assert asked(server) == first


def real_time(spikes: bool) -> list[dict[str, float]]:
    """Return the hours with real-time prices that equal the day-ahead prices, except for random spikes."""
    chance = random.Random(2)
    return [
        row | {"real_time": row["price"] + (600.0 if spikes and chance.random() < 0.02 else 0.0)}
        for row in ROWS
    ]


@pytest.mark.parametrize(("spikes", "policies"), [(True, {"curve"}), (False, {"rolling", "schedule"})])
def test_selected_policy_is_the_one_that_earned_most(
    server: Server, spikes: bool, policies: set[str]
) -> None:
    # given a history in which waiting for spikes paid off, or did not
    change = {"mode": "curves", "real_time_policy": "selected"}
    status, answer = server.ask(prices.request(real_time(spikes), LAST, **change))
    assert status == 200, answer
    # then the policy that earned most makes the offer of the hour
    found = answer["real_time"]
    assert found["policy"] in policies
    assert (len(found["segments"]) > 1) == spikes
    # and an award is delivered with any policy
    if not spikes:
        awards = {found["hour"]: 3.0}
        _, kept = server.ask(prices.request(real_time(spikes), LAST, **change, awards=awards))
        assert kept["real_time"]["segments"] == [[3.0, -150.0]]


def test_without_real_time_prices_the_curve_is_selected(server: Server) -> None:
    body = prices.request(ROWS, LAST, mode="curves", real_time_policy="selected")
    body["history"]["real_time"] = []
    status, answer = server.ask(body)
    assert (status, answer["real_time"]["policy"]) == (200, "curve")


HISTORY = prices.request(ROWS, LAST)["history"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"hour": "2022-04-19T13:30Z"}, "hour must be a whole hour such as 2022-01-31T05:00Z, got '2022-04"),
        ({"hour": HISTORY["start"]}, "hour must be from 1 to 72 hours after now, got '2022-01-01T06:00Z'"),
        ({"location": "ELSEWHERE"}, "location must be one of HUB"),
        ({"real_time_policy": "best"}, "real_time_policy must be curve or selected, got 'best'"),
        (
            {"real_time_policy": "selected"},
            "real_time_policy must be curve in the mode self_schedule, got 'selected'",
        ),
        ({"mode": "all"}, "mode must be self_schedule or curves or managed_curves, got 'all'"),
        ({"asset": {"power": -1}}, "asset.power must be a number above 0 and up to 1e+06, got -1"),
        ({"asset": {"capacity": 1}}, "asset.'capacity' is unknown, must be one of power, energy, "),
        ({"market": {}}, "market.floor is missing"),
        ({"time_zone": "Texas"}, "time_zone must be a time zone such as America/Chicago, got 'Texas'"),
        ({"time_zone": "America/Denver"}, "time_zone must be America/Chicago, which the model was trained"),
        ({"history": HISTORY | {"price": []}}, "history.price must have prices, got none"),
        (
            {"history": HISTORY | {"price": [1.0] * 12_001}},
            "history.price must be a list of at most 12000 values",
        ),
        (
            {"history": HISTORY | {"price": [1.0] * 240}},
            "history.price must have 42 to 500 days, got 240 hours",
        ),
        (
            {"history": HISTORY | {"price": [1.0] * 1100}},
            "history.price must have a price of the 24 hours before",
        ),
        (
            {"history": HISTORY | {"load": [math.nan]}},
            "history.load[0] (MW, or null) must be a number from 0",
        ),
        (
            {"history": HISTORY | {"temperature": [288.0]}},
            "history.temperature[0] (°C, or null) must be a",
        ),
        ({"state_of_charge": 33}, "state_of_charge must be a number from 0 to 32, got 33"),
        ({"state_of_charge": None}, "state_of_charge must be a number from 0 to 32, got None"),
        (
            {"awards": {"soon": 1}},
            "each hour in awards must be a whole hour such as 2022-01-31T05:00Z, got 'soon'",
        ),
        ({"day_ahead": "2022-04-18"}, "day_ahead must be a market day that begins after now"),
        ({"day_ahead": "tomorrow"}, "day_ahead must be a day such as 2022-02-01 or null, got 'tomorrow'"),
        ({"extra": 1}, "'extra' is unknown, must be one of hour, now, "),
    ],
)
def test_request_with_an_invalid_field_is_refused(server: Server, change: dict[str, Any], error: str) -> None:
    status, answer = server.ask(prices.request(ROWS, LAST, **change))
    assert status == 400, answer
    assert answer["error"].startswith(error)


def test_column_of_a_later_feed_is_ignored(server: Server) -> None:
    # given a request, and the same request with a column that the image does not know
    body = prices.request(ROWS, LAST)
    status, answer = server.ask(body)
    assert status == 200, answer
    # then the response is the same
    assert server.ask(body | {"history": body["history"] | {"wind": [1.0]}}) == (status, answer)


def test_day_whose_prices_are_known_is_not_forecast(server: Server) -> None:
    # given a history with the prices of the requested day
    body = prices.request(ROWS, LAST)
    body["history"]["price"] = [row["price"] for row in ROWS]
    status, answer = server.ask(body)
    assert (status, answer["error"]) == (
        400,
        "day_ahead must be a market day without prices in history.price",
    )


def test_infeasible_schedule_makes_no_offer(server: Server) -> None:
    status, answer = server.ask(
        prices.request(ROWS, LAST, asset={"power": 0.1, "final": 30}, state_of_charge=1)
    )
    assert status == 422
    assert answer["error"].startswith("could not make offers: the linear program has no optimum")


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"{", {}, 400, "the body must be JSON"),
        (b"[]", {}, 400, "the body must be an object, got a list"),
        (b"[" * 100_000, {}, 400, "the body must be JSON with fewer levels of nesting"),
        (b"x", {"Content-Type": "text/csv"}, 415, "content type must be application/json, got text/csv"),
        (b"{}", {"Origin": "https://example.com"}, 403, "requests from web pages are not allowed"),
        (b" " * (4 * 2**20 + 1), {}, 413, "the body must have at most 4194304 bytes"),
    ],
)
def test_wrong_request_is_refused_with_a_reason(
    server: Server, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    found, answer = server.ask(body, **headers)
    assert found == status
    assert answer["error"].startswith(error)


def test_folder_without_a_model_is_not_served(server_python: Path, tmp_path: Path) -> None:
    job = images.run(tmp_path, server_python, "serve")
    assert job.code == 1
    assert "could not read the model from model.json and its other files" in job.log


def test_serving_imports_no_training_package(trained: Job, trainer: Path) -> None:
    program = (
        "import json, sys; from power_forecaster import application;"
        "print(json.dumps(sorted({'tensorflow', 'keras', 'lightgbm', 'scipy'} & set(sys.modules))))"
    ).replace("application", "bidding, trained")
    done = subprocess.run(
        [trainer, "-c", program],
        env=images.environment(images.TRAIN, trained.base),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []
