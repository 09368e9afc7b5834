"""Monthly costs of serverless and provisioned hosting, and the timed request."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks.power_bidding import hosting
from benchmarks.power_bidding.hosting import Start
from benchmarks.power_bidding.hosting_costs import Costs, billed
from local.sagemaker.prices import ListPrice, list_price
from scenarios.power_bidding.history import Replay, later
from settings.power_bidding import PowerBidding

FIRST = "2024-09-09T05:00Z"


def costs(second: str, hour: str) -> Costs:
    return Costs(ListPrice(Decimal(second), "r", "2026-01-01"), ListPrice(Decimal(hour), "r", "2026-01-01"))


@pytest.mark.parametrize(
    ("seconds", "told"), [(1, "1.000"), (0.2, "0.200"), (0.2001, "0.201"), (0.0004, "0.001"), (1e-9, "0.001")]
)
def test_billed_counts_started_milliseconds(seconds: float, told: str) -> None:
    assert billed(seconds) == Decimal(told)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_billed_refuses_an_invalid_duration(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds must be a number above 0"):
        billed(seconds)


def test_serverless_month_is_billed_by_second_provisioned_by_hour() -> None:
    # given serverless memory of 2 GB at $0.00004 a second, and an instance at $0.115 an hour
    prices = costs("0.00004", "0.115")
    # then 730 invocations of 5 s are billed as 3,650 s, and the instance as 730 h
    assert prices.serverless(730, 5) == Decimal("0.146")
    assert prices.provisioned() == Decimal("83.95")
    assert prices.busy_share() == pytest.approx(0.115 / 0.144)


@pytest.mark.parametrize(
    ("second", "hour", "seconds"),
    [
        ("0.00004", "0.001", 0.9),
        ("0.00002", "0.0007", 0.0334),
        ("0.0001", "0.0013", 7.77),
        # the costs are equal: 730 h at $0.001, and 18,250 invocations of 1 s at $0.00004 a second
        ("0.00004", "0.001", 1.0),
        ("0.00012", "0.00001", 400.0),
    ],
)
def test_break_even_is_the_first_count_that_costs_as_much(second: str, hour: str, seconds: float) -> None:
    prices = costs(second, hour)
    # when the number of invocations is increased until serverless costs as much as the instance
    count = 1
    while prices.serverless(count, seconds) < prices.provisioned():
        count += 1
    # then
    assert prices.break_even(seconds) == count


def test_cost_ratio_follows_assets_memory_and_instance() -> None:
    # given
    chosen = PowerBidding(
        assets=("a@X", "b@Y"), serverless_memory_mb=4096, hosting_instance_type="ml.c5.xlarge"
    )
    # when
    found = hosting.costs(chosen, first=6, warm=1)
    # then the cost is that of two requests an hour, one for each asset, at the prices of the chosen memory
    # size and instance type
    assert found["invocations_a_month"] == 1460
    assert found["dollars_serverless"] == pytest.approx(1460 * 6 * 0.00008)
    assert found["dollars_provisioned"] == pytest.approx(730 * 0.204)
    ratio = found["dollars_serverless"] / found["dollars_provisioned"]
    assert found["serverless_cost_ratio"] == pytest.approx(ratio)
    assert found["serverless_break_even"] == 1_861_500


def test_price_that_is_not_in_the_table_is_named() -> None:
    with pytest.raises(
        LookupError, match=r"prices\.toml has no price of ml\.m5\.24xlarge for hosting in us-east-1"
    ):
        list_price("us-east-1", "hosting", "ml.m5.24xlarge")


def test_every_memory_size_has_a_serverless_price() -> None:
    prices = {
        memory: list_price("us-east-1", "serverless", str(memory)) for memory in range(1024, 6145, 1024)
    }
    assert all(price.dollars == Decimal("0.00002") * memory / 1024 for memory, price in prices.items())


def test_request_has_the_hours_of_production(tmp_path: Path) -> None:
    # given a history that starts 100 days before the replay's first hour and ends two days after it
    start = later(FIRST, -2400)
    rows = [
        f"{later(start, number)},{number},{number + 0.5},{2 * number},{number / 100}"
        for number in range(2448)
    ]
    path = tmp_path / "prices.csv"
    path.write_text("\n".join(["hour_utc,price:HUB,real_time:HUB,load,temperature", *rows, ""]))
    # when
    asked = json.loads(hosting.request(Replay(path, "HUB", FIRST, "", "", "", ()), PowerBidding()))
    # then the prices end with the market day, and repeated hours fill the time before the history
    history = asked["history"]
    assert history["start"] == later(FIRST, -392 * 24)
    ahead = {name: len(values) - 392 * 24 for name, values in history.items() if name != "start" and values}
    assert ahead == {"price": 24, "real_time": 1, "load": 48, "temperature": 48}
    assert history["price"][392 * 24 - 1 :][:3] == [2399, 2400, 2401]
    assert history["price"][392 * 24 - 2400] == history["price"][392 * 24 - 4800] == 0
    assert (asked["now"], asked["hour"]) == (FIRST, later(FIRST, 2))


def test_ratio_of_a_start_is_over_the_median_warm_one() -> None:
    assert Start(6.0, [1.0, 2.0, 30.0]).ratio == 3
