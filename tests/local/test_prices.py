"""The local price list, called with boto3 by a role that may read prices, and by a role that may not."""

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
    """Return the products that match `WANTED`. The client gets its endpoint from the environment alone."""
    pricing = boto3.Session().client("pricing", region_name="us-east-1", **credentials)
    filters: Any = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in WANTED.items()]
    pages = pricing.get_paginator("get_products").paginate(ServiceCode="AmazonSageMaker", Filters=filters)
    return [json.loads(product) for page in pages for product in page["PriceList"]]


def test_only_a_role_with_the_permission_gets_prices(
    cloud: LocalCloud, aws: Callable, enforced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given the variables that `local env` exports, a role with the permission and a role without it
    for name, value in cloud.env().items():
        monkeypatch.setenv(name, value)
    allowed = assumed(aws, ("pricing:GetProducts", "*"))
    denied = assumed(aws, ("pricing:DescribeServices", "*"))
    # when a caller with the permission requests prices, then the response has the product
    (found,) = products(**allowed)
    assert found["product"]["attributes"]["usagetype"] == "USE1-Train:ml.m5.xlarge"
    # when a caller without the permission requests prices, then the request is refused
    with pytest.raises(ClientError, match=r"\(AccessDeniedException\).*pricing:GetProducts"):
        products(**denied)
