"""The AWS Price List: the on-demand price of a training instance."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

REGION = "us-east-1"
"""Region of the Price List API, which returns the prices of all Regions."""


def hourly(pricing: Any, instance_type: str, region: str) -> float | None:
    """Return the price of an hour of training on an instance, in dollars.

    None if the Price List has no price or does not answer: an estimate without a price is still useful.
    """
    wanted = {"instanceName": instance_type, "component": "Training", "regionCode": region}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    try:
        pages = pricing.get_paginator("get_products").paginate(ServiceCode="AmazonSageMaker", Filters=filters)
        products = [json.loads(product) for page in pages for product in page["PriceList"]]
    except (BotoCoreError, ClientError):
        return None
    # Exclude warm pools, which have another usage type, and the free tier, whose price is 0
    prices = {
        float(rate["pricePerUnit"]["USD"])
        for product in products
        if product["product"]["attributes"]["usagetype"].endswith(f"-Train:{instance_type}")
        for term in product["terms"].get("OnDemand", {}).values()
        for rate in term["priceDimensions"].values()
    } - {0}
    return prices.pop() if len(prices) == 1 else None
