"""The operation GetProducts of the AWS Price List, for the prices of SageMaker training in `prices.toml`.

The table also has endpoint prices, for `list_price`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from local.sagemaker.api import NOT_BUILT, ApiError, Context, service_model, shaped, validate

SERVICE = "pricing"
OPERATION = "GetProducts"
REGIONS = ("us-east-1", "eu-central-1", "ap-south-1")
"""Regions in which AWS has this API. In each, the API returns the prices of all Regions."""
SERVICE_CODE = "AmazonSageMaker"
"""The only service whose products are in the table."""
FORMAT = "aws_v1"
PAGE = 100
"""Default number of products on a page."""
TABLE = Path(__file__).with_name("prices.toml")
TERM, RATE = "JRTCKXETXF", "6YS6EN2CT7"
"""AWS's codes for an on-demand term and for its rate."""

Product = dict[str, Any]


@dataclass(frozen=True)
class ListPrice:
    """A price from `prices.toml`."""

    dollars: Decimal
    region: str
    as_of: str
    """Date of the source, such as 2026-09-01"""


def list_price(region: str, use: str, item: str) -> ListPrice:
    """Return the list price of an item in a Region.

    :param use: `hosting` or `serverless`

    Raises `LookupError` if the table has no such price.
    """
    found = _table().get(region, {}).get(use, {}).get(item)
    if found is None:
        raise LookupError(f"{TABLE.name} has no price of {item} for {use} in {region}")
    return ListPrice(Decimal(found["price"]), region, found["as_of"])


def call(context: Context, name: str, params: dict[str, Any]) -> dict[str, Any]:
    """Execute an operation and return its response.

    Raises `ApiError` with AWS's error code, or with `NOT_BUILT` for what the local cloud does not have.
    """
    if name not in service_model(SERVICE).operation_names:
        raise ApiError("UnknownOperationException", f"The AWS Price List has no operation {name}", 404)
    if name != OPERATION:
        raise _unbuilt(name)
    if context.region not in REGIONS:
        raise ApiError("InvalidSignatureException", "Credential should be scoped to a valid region.")
    model = service_model(SERVICE).operation_model(name)
    try:
        validate(model.input_shape, params)
    except ApiError as error:
        raise _wrong(error.message) from error
    if context.access_key is not None:
        context.platform.authorize(
            context.account, context.region, context.access_key, f"{SERVICE}:{name}", "*"
        )
    return shaped(model.output_shape, _get_products(params))


def _get_products(params: dict[str, Any]) -> dict[str, Any]:
    code, filters = params["ServiceCode"], params.get("Filters", [])
    if not re.fullmatch("[a-zA-Z0-9]+", code):
        raise _wrong("ServiceCode can only contain a-z, A-Z, 0-9")
    if code != SERVICE_CODE:
        raise _unbuilt(f"{OPERATION} of {code}")
    if params.get("FormatVersion", FORMAT) != FORMAT:
        raise _wrong(f"FormatVersion must be {FORMAT}, got {params['FormatVersion']}")
    _check(filters)
    wanted = [(each["Field"].lower(), each["Value"]) for each in filters]
    found = [
        product for product in _products() if all(_fields(product)[field] == value for field, value in wanted)
    ]
    start = _start(params["NextToken"], filters) if "NextToken" in params else 0
    end = start + params.get("MaxResults", PAGE)
    answer = {"FormatVersion": FORMAT, "PriceList": [json.dumps(product) for product in found[start:end]]}
    return answer | ({"NextToken": _token(end, filters)} if end < len(found) else {})


def _fields(product: Product) -> dict[str, str]:
    """Return the values that filters compare, by lower-case name: filter `ServiceCode` is `servicecode`."""
    fields = product["product"]["attributes"] | {"productFamily": product["product"]["productFamily"]}
    return {name.lower(): value for name, value in fields.items()}


def _check(filters: list[dict[str, str]]) -> None:
    for each in filters:
        if each["Type"] != "TERM_MATCH":
            raise _unbuilt(f"{OPERATION} with a filter of type {each['Type']}")
        if each["Field"].lower() not in _fields(_products()[0]):
            raise _unbuilt(f"{OPERATION} with a filter for {each['Field']}")


def _token(start: int, filters: list[dict[str, str]]) -> str:
    return base64.urlsafe_b64encode(json.dumps([start, filters]).encode()).decode()


def _start(token: str, filters: list[dict[str, str]]) -> int:
    """Return the index of a page's first product. Raises `ApiError` for a token of another request."""
    try:
        start, of = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError):
        start, of = None, None
    if not isinstance(start, int) or start < 0 or of != filters:
        raise ApiError(
            "InvalidNextTokenException",
            "The pagination token is invalid. Try again without a pagination token.",
        )
    return start


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text())


@functools.cache
def _products() -> list[Product]:
    """Return the training prices in the format of the Price List."""
    return [
        _product(region, about, instance, Decimal(price))
        for region, about in _table().items()
        for instance, price in about["training"].items()
    ]


def _product(region: str, about: dict[str, Any], instance: str, price: Decimal) -> Product:
    usage, since = f"{about['usage']}-Train:{instance}", f"{about['as_of']}T00:00:00Z"
    # The sources do not have AWS's SKU, which never changes. This substitute never changes either
    sku = base64.b32encode(hashlib.sha256(usage.encode()).digest())[:16].decode()
    rate = {
        "rateCode": f"{sku}.{TERM}.{RATE}",
        "description": f"${price} per Training {instance} hour in {about['location']}",
        "unit": "Hrs",
        "beginRange": "0",
        "endRange": "Inf",
        "pricePerUnit": {"USD": f"{price:.10f}"},
        "appliesTo": [],
    }
    term = {
        "sku": sku,
        "offerTermCode": TERM,
        "effectiveDate": since,
        "termAttributes": {},
        "priceDimensions": {rate["rateCode"]: rate},
    }
    attributes = {
        "servicecode": SERVICE_CODE,
        "servicename": "Amazon SageMaker",
        "regionCode": region,
        "location": about["location"],
        "locationType": "AWS Region",
        "instanceName": instance,
        "instanceType": f"{instance}-Training",
        "component": "Training",
        "operation": "RunInstance",
        "usagetype": usage,
    }
    return {
        "product": {"productFamily": "ML Instance", "attributes": attributes, "sku": sku},
        "serviceCode": SERVICE_CODE,
        "terms": {"OnDemand": {f"{sku}.{TERM}": term}},
        "version": about["as_of"].replace("-", "") + "000000",
        "publicationDate": since,
    }


def _wrong(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)


def _unbuilt(what: str) -> ApiError:
    return ApiError(NOT_BUILT, f"{SERVICE}:{what} is not implemented in the local cloud", 501)
