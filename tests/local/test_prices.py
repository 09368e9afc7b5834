"""The price list as a program asks it: by the exported endpoint, with the permission for it and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.deployments import assumed

WANTED = {"instanceName": "ml.m5.xlarge", "component": "Training", "regionCode": "us-east-1"}


def products(**credentials: Any) -> list[dict[str, Any]]:
    """Ask for the products that are wanted, with nothing but the environment and these credentials."""
    pricing = boto3.Session().client("pricing", region_name="us-east-1", **credentials)
    filters: Any = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in WANTED.items()]
    pages = pricing.get_paginator("get_products").paginate(ServiceCode="AmazonSageMaker", Filters=filters)
    return [json.loads(product) for page in pages for product in page["PriceList"]]


def test_prices_are_told_whom_a_policy_allows_to_ask(
    cloud: LocalCloud, aws: Callable, enforced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given the variables that `local env` exports, and two roles
    for name, value in cloud.env().items():
        monkeypatch.setenv(name, value)
    allowed = assumed(aws, ("pricing:GetProducts", "*"))
    denied = assumed(aws, ("pricing:DescribeServices", "*"))
    # when the one asks; then it gets the product
    (found,) = products(**allowed)
    assert found["product"]["attributes"]["usagetype"] == "USE1-Train:ml.m5.xlarge"
    # when the other asks; then it does not
    with pytest.raises(ClientError, match=r"\(AccessDeniedException\).*pricing:GetProducts"):
        products(**denied)
