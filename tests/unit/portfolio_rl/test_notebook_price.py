"""The notebook's cell about costs: the products of the AWS Price List that it uses, and its output."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

NOTEBOOK = Path(__file__).resolve().parents[3] / "notebooks" / "portfolio_rl" / "trade.ipynb"
STACK = {"StackId": "arn:aws:cloudformation:eu-central-1:000000000000:stack/name/1"}
UNKNOWN = "What the job costs at most is not known: "


def product(usage: str, *dollars: str) -> str:
    """Return a product in the format of the Price List, with a rate for each price."""
    rates = {f"rate-{price}": {"pricePerUnit": {"USD": price}} for price in dollars}
    return json.dumps(
        {
            "product": {"attributes": {"usagetype": usage}},
            "terms": {"OnDemand": {"term": {"priceDimensions": rates}}},
        }
    )


class PriceList:
    """A client that returns these pages, or fails."""

    def __init__(self, *pages: list[str], failure: Exception | None = None):
        self.pages, self.failure = pages, failure
        self.asked: dict[str, str] = {}

    def get_paginator(self, operation: str) -> PriceList:
        assert operation == "get_products"
        return self

    def paginate(self, ServiceCode: str, Filters: list[dict[str, str]]) -> list[dict[str, list[str]]]:
        if self.failure:
            raise self.failure
        assert (ServiceCode, {each["Type"] for each in Filters}) == ("AmazonSageMaker", {"TERM_MATCH"})
        self.asked = {each["Field"]: each["Value"] for each in Filters}
        return [{"PriceList": page} for page in self.pages]


def run(prices: PriceList) -> None:
    """Run the cell."""
    cells = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"]]
    (source,) = [text for text in cells if "get_products" in text]

    def client(service: str, region_name: str, config: Config) -> Any:
        assert (service, region_name) == ("pricing", "us-east-1")
        return prices

    exec(  # noqa: S102 - the project's own notebook
        source,
        {
            "json": json,
            "boto3": SimpleNamespace(client=client),
            "stack": STACK,
            "Config": Config,
            "BotoCoreError": BotoCoreError,
            "ClientError": ClientError,
        },
    )


def test_cost_uses_the_price_of_on_demand_training(capsys: pytest.CaptureFixture[str]) -> None:
    # given a price list in which other products match the filters too
    prices = PriceList(
        [product("EUC1-TrainWarmPool:ml.m5.xlarge", "9"), product("EUC1-Train:ml.m5.xlarge", "0", "0.276")],
        [product("EUC1-Train:ml.m5.xlarge.more", "9"), product("EUC1-Train:ml.m5.xlarge", "0.2760")],
    )
    # when
    run(prices)
    # then
    assert prices.asked == {
        "regionCode": "eu-central-1",
        "instanceName": "ml.m5.xlarge",
        "component": "Training",
    }
    assert capsys.readouterr().out.splitlines() == [
        "1 x ml.m5.xlarge for at most 30 minutes: $0.14 at $0.276 an hour (list price, eu-central-1)",
        "2 x ml.m5.xlarge for at most 30 minutes: $0.28 at $0.276 an hour (list price, eu-central-1)",
    ]


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        (PriceList([]), "the AWS Price List has no prices of ml.m5.xlarge in eu-central-1"),
        (PriceList([product("EUC1-Train:ml.m5.xlarge", "0.1", "0.2")]), "the AWS Price List has 2 prices"),
        (
            PriceList(failure=ClientError({"Error": {"Code": "AccessDenied"}}, "GetProducts")),
            "An error occurred (AccessDenied)",
        ),
        (PriceList(failure=EndpointConnectionError(endpoint_url="https://there")), "Could not connect"),
    ],
)
def test_missing_price_is_reported_in_one_sentence(
    prices: PriceList, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(prices)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(UNKNOWN + said)
