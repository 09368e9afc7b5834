"""The local cloud's price list: products, pages, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local.sagemaker import prices
from local.sagemaker.api import ApiError
from local.sagemaker.http import PRICES, handle_request
from local.sagemaker.store import Store

IN_IRELAND = {"regionCode": "eu-west-1"}


def ask(tmp_path: Path, operation: str = "GetProducts", region: str = "us-east-1", **params: Any) -> Any:
    """Send one request as the SDKs do; return the response, or the error's code and message."""
    store = Store(tmp_path / "records.sqlite")
    body = json.dumps({"ServiceCode": "AmazonSageMaker"} | params).encode()
    headers = {"X-Amz-Target": f"{PRICES}.{operation}"}
    given = ("POST", "/", headers, body, {}, "000000000000", region, None)
    status, _, answer = handle_request(SimpleNamespace(settings={}), store, *given)  # type: ignore[arg-type]
    said = json.loads(answer)
    return said if status == 200 else (said["__type"], said["message"])


def term_match(**fields: str) -> list[dict[str, str]]:
    return [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]


def test_product_has_the_format_of_the_price_list(tmp_path: Path) -> None:
    filters = term_match(regionCode="us-east-1", instanceName="ml.m5.xlarge", component="Training")
    answer = ask(tmp_path, Filters=filters)
    assert set(answer) == {"FormatVersion", "PriceList"}
    (text,) = answer["PriceList"]
    found = json.loads(text)
    assert found["product"]["attributes"]["usagetype"] == "USE1-Train:ml.m5.xlarge"
    ((code, term),) = found["terms"]["OnDemand"].items()
    assert code == f"{found['product']['sku']}.{term['offerTermCode']}"
    (rate,) = term["priceDimensions"].values()
    assert (rate["unit"], rate["pricePerUnit"]) == ("Hrs", {"USD": "0.2300000000"})


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"ServiceCode": "AmazonSageMaker"} | IN_IRELAND, 3),
        ({"productFamily": "ML Instance"} | IN_IRELAND, 3),
        ({"component": "Hosting"} | IN_IRELAND, 0),
        ({"regionCode": "eu-west"}, 0),
    ],
)
def test_products_match_every_filter(tmp_path: Path, fields: dict[str, str], count: int) -> None:
    assert len(ask(tmp_path, Filters=term_match(**fields))["PriceList"]) == count


def test_pages_have_each_product_once(tmp_path: Path) -> None:
    # given
    whole, pages, token = ask(tmp_path)["PriceList"], [], {}
    # when
    while token is not None:
        page = ask(tmp_path, MaxResults=5, **token)
        pages.append(page["PriceList"])
        token = {"NextToken": page["NextToken"]} if "NextToken" in page else None
    # then
    assert [text for page in pages for text in page] == whole
    assert {len(page) for page in pages[:-1]} == {5}


@pytest.mark.parametrize(
    ("params", "code", "said"),
    [
        ({"ServiceCode": "Amazon SageMaker"}, "InvalidParameterException", "can only contain a-z, A-Z, 0-9"),
        ({"ServiceCode": "AmazonEC2"}, "NotImplementedByLocalCloud", "pricing:GetProducts of AmazonEC2 is"),
        ({"FormatVersion": "aws_v2"}, "InvalidParameterException", "aws_v2"),
        ({"MaxResults": 0}, "InvalidParameterException", "MaxResults"),
        ({"MaxResults": 101}, "InvalidParameterException", "must be at most 100"),
        ({"NextToken": "bm9uZQ=="}, "InvalidNextTokenException", "invalid"),
        ({"operation": "DescribeServices"}, "NotImplementedByLocalCloud", "pricing:DescribeServices is"),
        ({"operation": "MakeCoffee"}, "UnknownOperationException", "MakeCoffee"),
        ({"region": "eu-west-1"}, "InvalidSignatureException", "scoped to a valid region"),
        ({"Filters": term_match(vCpu="4")}, "NotImplementedByLocalCloud", "a filter for vCpu"),
        (
            {"Filters": [*term_match(regionCode="none"), {"Type": "EQUALS", "Field": "sku", "Value": "1"}]},
            "NotImplementedByLocalCloud",
            "a filter of type EQUALS",
        ),
    ],
)
def test_unsupported_request_is_refused_by_name(
    tmp_path: Path, params: dict[str, Any], code: str, said: str
) -> None:
    refused, message = ask(tmp_path, **params)
    assert refused == code
    assert said in message


def test_token_of_other_filters_is_refused(tmp_path: Path) -> None:
    token = ask(tmp_path, MaxResults=1)["NextToken"]
    refused, _ = ask(tmp_path, NextToken=token, Filters=term_match(**IN_IRELAND))
    assert refused == "InvalidNextTokenException"


def test_caller_needs_the_permission(tmp_path: Path) -> None:
    asked = []

    def authorize(*given: Any) -> None:
        asked.append(given[3:])
        raise ApiError("AccessDeniedException", "the role lacks pricing:GetProducts")

    scope = Store(tmp_path / "records.sqlite").scoped("000000000000", "us-east-1")
    context = prices.Context(SimpleNamespace(authorize=authorize), scope, "AKIA")  # type: ignore[arg-type]
    with pytest.raises(ApiError, match="the role lacks pricing:GetProducts"):
        prices.call(context, "GetProducts", {"ServiceCode": "AmazonEC2"})
    assert asked == [("pricing:GetProducts", "*")]
