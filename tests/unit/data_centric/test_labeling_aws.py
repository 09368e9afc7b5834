"""The adapter of S3, and the handler of the API: limits, URLs, errors."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from botocore.stub import Stubber

from data_centric.aws.environment import CONFIGS
from data_centric.aws.objects import ObjectError, Objects
from data_centric.core.places import Places
from data_centric.handlers import api


def objects() -> tuple[Objects, Stubber]:
    client = boto3.client(
        "s3",
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        endpoint_url="https://s3.eu-west-1.amazonaws.com",
        config=CONFIGS["s3"],
    )
    stub = Stubber(client)
    stub.activate()
    return Objects(client, Places("data")), stub


def test_object_above_the_limit_is_not_read() -> None:
    found, stub = objects()
    for most, size in ((None, 5), (5, 5), (4, 5)):
        body: Any = StreamingBody(io.BytesIO(b"x" * size), size)
        stub.add_response("get_object", {"Body": body, "ContentLength": size})
        if most == 4:
            with pytest.raises(ObjectError, match="s3://data/inputs/a must have at most 4 bytes, got 5"):
                found.read("inputs/a", most)
        else:
            assert found.read("inputs/a", most) == b"xxxxx"


def test_absent_object_is_named_and_refused_ones_raise() -> None:
    found, stub = objects()
    stub.add_client_error("get_object", "NoSuchKey")
    with pytest.raises(ObjectError, match="there is no object s3://data/inputs/a"):
        found.read("inputs/a")
    stub.add_client_error("get_object", "AccessDenied")
    with pytest.raises(ClientError, match="AccessDenied"):
        found.read("inputs/a")


def test_address_is_of_a_picture_and_ends() -> None:
    found, _ = objects()
    url = urlsplit(found.address("s3://data/inputs/a b.png", 90))
    query = parse_qs(url.query)
    assert (url.netloc.partition(".")[0], url.path) == ("data", "/inputs/a%20b.png")
    assert (query["X-Amz-Expires"], query["X-Amz-Algorithm"]) == (["90"], ["AWS4-HMAC-SHA256"])
    for reference in ("s3://data/labels/animals/report.json", "s3://other/inputs/a.png"):
        with pytest.raises(ValueError, match="must be in s3://data/inputs/"):
            found.address(reference, 90)


EVENT: Any = {
    "routeKey": "GET /api/runs",
    "requestContext": {"authorizer": {"jwt": {"claims": {"sub": "ann"}}}},
}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ClientError({"Error": {"Code": "ThrottlingException"}}, "Query"), 503, "busy"),
        (ClientError({"Error": {"Code": "AccessDeniedException"}}, "Query"), 500, "internal"),
        (RuntimeError("the secret's value"), 500, "internal"),
    ],
)
def test_handler_hides_the_reason_of_an_unexpected_failure(
    error: Exception, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> Any:
        raise error

    monkeypatch.setattr(api, "service", failing)
    context: Any = SimpleNamespace(
        function_name="api", memory_limit_in_mb=1, invoked_function_arn="arn", aws_request_id="1"
    )
    told = api.handler(EVENT, context)
    assert (told["statusCode"], json.loads(told["body"])["error"]["code"]) == (status, code)
    assert "secret" not in told["body"]
