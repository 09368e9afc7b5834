"""Verification of signatures: those of AWS's SDK are accepted, and any other request is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from local import keys
from local.emulator import signatures
from local.emulator.signatures import Request, SignatureError

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEY: dict[str, Any] = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": SECRET}
NOW = datetime(2013, 5, 24, tzinfo=UTC)

CALLS: dict[str, Callable[[Any], Any]] = {
    "dynamodb": lambda client: client.put_item(TableName="t", Item={"key": {"S": "é ü"}}),
    "sqs": lambda client: client.send_message(QueueUrl="http://127.0.0.1:1/0/q", MessageBody="a=b&c"),
    "sns": lambda client: client.publish(TopicArn="arn:aws:sns:eu-west-1:1:t", Message="a + b"),
    "iam": lambda client: client.get_role(RoleName="a+b"),
    "cloudwatch": lambda client: client.list_metrics(Namespace="a b/c"),
    "lambda": lambda client: client.invoke(
        FunctionName="arn:aws:lambda:eu-west-1:1:function:f", Payload=b"{}"
    ),
    "apigatewayv2": lambda client: client.tag_resource(ResourceArn="arn:aws:x::/apis/1", Tags={"a": "b"}),
    "cloudfront": lambda client: client.get_distribution(Id="E1"),
    "sagemaker-runtime": lambda client: client.invoke_endpoint(EndpointName="e", Body=b"\x00\xff"),
    "s3": lambda client: client.put_object(
        Bucket="bucket", Key="a b/ü+~(1).txt", Body=b"text", Metadata={"of": "somebody  else"}
    ),
}


def sent(service: Any, call: Callable[[Any], Any], **config: Any) -> Request:
    """Return the request that the SDK sends for a call."""
    seen = []

    def keep(request: Any, **_: Any) -> AWSResponse:
        seen.append(request)
        raise InterruptedError

    client = boto3.client(
        service, endpoint_url="http://127.0.0.1:4566", region_name="eu-west-1", config=Config(**config), **KEY
    )
    client.meta.events.register("before-send", keep)
    with pytest.raises(InterruptedError):
        call(client)
    (request,) = seen
    place = urlsplit(request.url)
    headers = tuple(
        (name.lower(), value.decode() if isinstance(value, bytes) else str(value))
        for name, value in request.headers.items()
    )
    body: Any = request.body or b""
    body = body.read() if hasattr(body, "read") else body
    body = body.encode() if isinstance(body, str) else bytes(body)
    return Request(request.method, place.path, place.query, (("host", place.netloc), *headers), body)


def check(request: Request, secret: str = SECRET, now: datetime | None = None) -> None:
    claim = signatures.claim(request)
    assert claim is not None
    signatures.verify(request, claim, secret, now)


def with_header(request: Request, name: str, value: str) -> Request:
    others = tuple(pair for pair in request.headers if pair[0] != name)
    return replace(request, headers=(*others, (name, value)))


def presigned(seconds: int = 60, **config: Any) -> Request:
    client = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:4566",
        region_name="eu-west-1",
        config=Config(**dict[str, Any](signature_version="s3v4") | config),
        **KEY,
    )
    place = {"Bucket": "bucket", "Key": "a b/ü.txt"}
    url = urlsplit(client.generate_presigned_url("get_object", Params=place, ExpiresIn=seconds))
    return Request("GET", url.path, url.query, (("host", url.netloc),))


@pytest.mark.parametrize("service", CALLS)
def test_signature_of_the_sdk_is_verified(service: str) -> None:
    check(sent(service, CALLS[service]))


@pytest.mark.parametrize("service", CALLS)
def test_changed_request_is_refused(service: str) -> None:
    request = sent(service, CALLS[service])
    changed = [
        replace(request, method="DELETE"),
        replace(request, raw_path=f"{request.raw_path}x"),
        replace(request, raw_query="acl="),
        replace(request, body=request.body + b"x"),
        with_header(request, "host", "127.0.0.2:4566"),
        with_header(request, "x-amz-date", f"{datetime.now(UTC):%Y%m%dT%H%M}99Z"),
    ]
    for other in changed:
        with pytest.raises(SignatureError):
            check(other)
    with pytest.raises(SignatureError, match="does not match"):
        check(request, "another secret")


def test_header_of_s3_that_is_not_signed_is_refused() -> None:
    request = sent("s3", CALLS["s3"])
    with pytest.raises(SignatureError) as refused:
        check(with_header(request, "x-amz-acl", "public-read"))
    assert refused.value.code == "HeadersNotSigned"


@pytest.mark.parametrize(
    ("minutes", "refused"), [(-16, True), (-14, False), (14, False), (16, True)], ids=str
)
def test_request_is_valid_for_a_quarter_of_an_hour(minutes: int, refused: bool) -> None:
    request, now = sent("sns", CALLS["sns"]), datetime.now(UTC) + timedelta(minutes=minutes)
    if not refused:
        return check(request, now=now)
    with pytest.raises(SignatureError) as error:
        check(request, now=now)
    assert error.value.code == "RequestTimeTooSkewed"


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_presigned_address_is_verified_until_it_expires(style: str) -> None:
    # given a URL that is valid for a minute
    request = presigned(60, s3={"addressing_style": style})
    check(request)
    # then the URL is refused before it is valid, after it has expired, and for another object
    for seconds in (-1000, 62):
        with pytest.raises(SignatureError) as error:
            check(request, now=datetime.now(UTC) + timedelta(seconds=seconds))
        assert error.value.code == "RequestExpired"
    for other in (
        replace(request, raw_path="/bucket/another"),
        replace(request, method="DELETE"),
        replace(request, raw_query=request.raw_query.replace("X-Amz-Expires=60", "X-Amz-Expires=600")),
        replace(request, raw_query=f"{request.raw_query}&versionId=1"),
    ):
        with pytest.raises(SignatureError, match="does not match"):
            check(other)


def test_presigned_address_lasts_a_week_at_most() -> None:
    check(presigned(604_800))
    with pytest.raises(SignatureError, match="604800"):
        check(presigned(604_801))


def test_signature_version_2_is_refused() -> None:
    with pytest.raises(SignatureError) as error:
        check(presigned(signature_version="s3"))
    assert error.value.code == "UnsupportedSignature"


@pytest.mark.parametrize(
    "change",
    [
        lambda r: with_header(
            r, "authorization", f"{r.header('authorization')}, Credential=AKIAROOT/1/2/3/4"
        ),
        lambda r: replace(r, headers=(*r.headers, ("authorization", r.header("authorization")))),
        lambda r: replace(
            r, raw_query="X-Amz-Credential=AKIAROOT%2F20130524%2Feu-west-1%2Fs3%2Faws4_request"
        ),
        lambda r: replace(r, raw_query="x-amz-credential=AKIAROOT"),
        lambda r: replace(r, raw_query="AWSAccessKeyId=AKIAROOT"),
        lambda r: with_header(r, "authorization", r.header("authorization").replace("AKIA", "=AKIA", 1)),
    ],
)
def test_request_that_claims_two_keys_is_refused(change: Callable[[Request], Request]) -> None:
    with pytest.raises(SignatureError):
        signatures.claim(change(sent("s3", CALLS["s3"])))


@pytest.mark.parametrize("name", ["X-Amz-Credential", "x-amz-credential", "X-Amz-Date"])
def test_presigned_address_with_a_repeated_parameter_is_refused(name: str) -> None:
    request = presigned()
    with pytest.raises(SignatureError):
        signatures.claim(replace(request, raw_query=f"{request.raw_query}&{name}=AKIAROOT"))


def test_request_without_a_signature_has_no_claim() -> None:
    bearer = (("host", "127.0.0.1"), ("authorization", "Bearer token"))
    assert signatures.claim(Request("GET", "/", "list-type=2", bearer)) is None


# Bodies in chunks: the examples of sigv4-streaming.html and sigv4-streaming-trailers.html -------------

SIGNED = "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length"
CHUNKED = {
    signatures.CHUNKS: (
        f"{SIGNED};x-amz-storage-class",
        "66824",
        (
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ),
        b"\r\n",
    ),
    signatures.CHUNKS_AND_TRAILER: (
        f"{SIGNED};x-amz-storage-class;x-amz-trailer",
        None,
        (
            "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ),
        b"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:"
        b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
    ),
}


def chunked(kind: str) -> Request:
    signed, length, (seed, *chunks), end = CHUNKED[kind]
    if length is None:
        signed = signed.replace("content-length;", "", 1)
    body = b"".join(
        f"{size:x};chunk-signature={signature}\r\n".encode() + b"a" * size + b"\r\n" * (size > 0)
        for size, signature in zip((65536, 1024, 0), chunks, strict=True)
    )
    headers = {
        "host": "s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
        f"aws4_request,SignedHeaders={signed},Signature={seed}",
        "x-amz-content-sha256": kind,
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
    }
    headers |= {"content-length": length} if length else {"x-amz-trailer": "x-amz-checksum-crc32c"}
    return Request("PUT", "/examplebucket/chunkObject.txt", "", tuple(headers.items()), body + end)


@pytest.mark.parametrize("kind", CHUNKED)
def test_body_in_signed_chunks_is_verified(kind: str) -> None:
    check(chunked(kind), now=NOW)


@pytest.mark.parametrize("kind", CHUNKED)
@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"aaa", b"aab", 1),
        lambda body: body[: body.index(b"400;")] + body[body.rindex(b"0;chunk-signature=") :],
        lambda body: body[:60000],
        lambda body: b"",
        lambda body: body.replace(b"\r\n0;chunk-signature=", b"\r\n0;chunk-signature=0", 1),
    ],
    ids=["another byte", "without a chunk", "cut off", "empty", "malformed"],
)
def test_changed_chunked_body_is_refused(kind: str, change: Callable[[bytes], bytes]) -> None:
    request = chunked(kind)
    with pytest.raises(SignatureError, match="does not match"):
        check(replace(request, body=change(request.body)), now=NOW)


@pytest.mark.parametrize("change", [(b"sOO8/Q==", b"AAAAAA=="), (b"x-amz-trailer-signature", b"x-amz-other")])
def test_changed_trailer_is_refused(change: tuple[bytes, bytes]) -> None:
    request = chunked(signatures.CHUNKS_AND_TRAILER)
    with pytest.raises(SignatureError, match="does not match"):
        check(replace(request, body=request.body.replace(*change)), now=NOW)


def test_signature_that_is_no_ascii_text_is_refused() -> None:
    request = presigned()
    query = re.sub("X-Amz-Signature=[0-9a-f]+", "X-Amz-Signature=%C3%A9", request.raw_query)
    assert query != request.raw_query
    with pytest.raises(SignatureError):
        check(replace(request, raw_query=query))


# The local cloud's signing key ------------------------------------------------------------------------


def test_key_is_created_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    # given a home folder whose key file other users can read
    key = keys.ensure(tmp_path)
    (tmp_path / keys.FILE).chmod(0o644)
    # when the key is read again, then it is the same, and only its owner can read the file
    assert keys.ensure(tmp_path) == keys.read(tmp_path) == key
    assert (tmp_path / keys.FILE).stat().st_mode & 0o777 == 0o600
    assert keys.new() != keys.new()


@pytest.mark.parametrize("body", [b"", b'{"enforce": true}'])
def test_signature_of_the_own_signer_is_verified(body: bytes) -> None:
    key = keys.new()
    headers = keys.signed(key, "POST", "http://127.0.0.1:4566/_groundplan/iam", body)
    pairs = (("host", "127.0.0.1:4566"), *((name.lower(), value) for name, value in headers.items()))
    request = Request("POST", "/_groundplan/iam", "", pairs, body)
    check(request, key.secret_access_key)
    with pytest.raises(SignatureError, match="does not match"):
        check(replace(request, body=b"{}"), key.secret_access_key)
