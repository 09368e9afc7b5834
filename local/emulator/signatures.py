"""Verification of request signatures: AWS Signature Version 4, in a header or in the query string.

botocore's signer computes the signature of the received request again, with the secret of the request's
access key. docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html describes chunked bodies.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, HTTPHeaders
from botocore.credentials import Credentials

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = timedelta(minutes=15)
"""Maximum difference between a request's date and the server's clock."""
LONGEST = 604_800
"""Maximum validity of a presigned URL in seconds: a week, as in S3."""
ENCODED_ONCE = ("s3", "s3-object-lambda", "s3-outposts", "s3express")
"""Services whose canonical path is URL-encoded once. For other services it is encoded twice."""
PRESIGNED = (
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
    "X-Amz-Signature", "X-Amz-Security-Token",
)  # fmt: skip
UNSIGNED, UNSIGNED_CHUNKS = "UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
CHUNKS, CHUNKS_AND_TRAILER = (
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
)

SCOPE = r"([^/\s,=]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request"
_HEADER = re.compile(
    rf"{ALGORITHM} Credential={SCOPE}, *SignedHeaders=([^\s,=]+), *Signature=([0-9a-f]{{64}})"
)
_DATE = "%Y%m%dT%H%M%SZ"
_EMPTY = hashlib.sha256(b"").hexdigest()


class SignatureError(Exception):
    """A request's signature is missing, incomplete, wrong or expired. `code` is AWS's error code."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True)
class Request:
    """A request as received. Header names are in lower case; a header that was sent twice occurs twice."""

    method: str
    raw_path: str
    raw_query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @classmethod
    def of(cls, scope: dict[str, Any], body: bytes = b"") -> Request:
        """Return the request of an ASGI scope."""
        path = scope.get("raw_path") or quote(scope["path"]).encode()
        headers = tuple((name.decode("latin-1").lower(), _text(value)) for name, value in scope["headers"])
        query = scope.get("query_string", b"").decode("latin-1")
        return cls(scope.get("method", "GET"), path.decode("latin-1"), query, headers, body)

    def header(self, name: str) -> str:
        """Return the value of a header; joined with commas if repeated, empty if absent."""
        return ",".join(value for each, value in self.headers if each == name)

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.raw_query, keep_blank_values=True)


@dataclass(frozen=True)
class Claim:
    """A request's signature before it is verified: access key, scope and signed headers."""

    access_key_id: str
    day: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    date: str
    token: str
    expires: str | None = None
    """Seconds for which a presigned URL is valid; None if the signature is in a header"""

    @property
    def presigned(self) -> bool:
        return self.expires is not None


def claim(request: Request) -> Claim | None:
    """Return a request's signature, or None if the request is not signed.

    Raises `SignatureError` if the signature is incomplete, ambiguous, or has an unsupported algorithm.
    """
    authorization = request.header("authorization")
    named = [name for name, _ in request.query]
    by_query = [name for name in named if name.lower() in {each.lower() for each in PRESIGNED}]
    by_header = authorization.startswith(("AWS4-", "AWS "))
    # Allow one signature only, so that later code cannot read the access key of a signature that was not
    # verified. Version 2 is refused, as AWS does for S3 buckets created since 2020.
    if "AWSAccessKeyId" in named or (by_header and by_query):
        raise SignatureError(
            "UnsupportedSignature", "A request must have only one signature, of Signature Version 4."
        )
    if by_header:
        return _from_header(request, authorization)
    return _from_query(request, by_query) if by_query else None


def _from_header(request: Request, authorization: str) -> Claim:
    if not authorization.startswith(ALGORITHM):
        raise SignatureError("UnsupportedSignature", f"The algorithm must be {ALGORITHM}.")
    found = _HEADER.fullmatch(authorization)
    date = request.header("x-amz-date") or _http_date(request.header("date"))
    if found is None or not date:
        raise SignatureError(
            "IncompleteSignature",
            "The Authorization header must have Credential, SignedHeaders and Signature, and the request "
            "must have a date header.",
        )
    key, day, region, service, signed, signature = found.groups()
    token = request.header("x-amz-security-token")
    return Claim(key, day, region, service, tuple(signed.split(";")), signature, date, token)


def _from_query(request: Request, by_query: list[str]) -> Claim:
    given = dict(request.query)
    wanted = set(PRESIGNED) - {"X-Amz-Security-Token"}
    scope = re.fullmatch(SCOPE, given.get("X-Amz-Credential", ""))
    if given.get("X-Amz-Algorithm", ALGORITHM) != ALGORITHM:
        raise SignatureError("UnsupportedSignature", f"The algorithm must be {ALGORITHM}.")
    if scope is None or not wanted <= set(by_query) or len(by_query) != len(set(by_query)):
        raise SignatureError(
            "IncompleteSignature",
            f"A presigned URL must have each of these parameters once: {', '.join(sorted(wanted))}.",
        )
    if not set(by_query) <= set(PRESIGNED):
        raise SignatureError("IncompleteSignature", "The parameters of a presigned URL are case sensitive.")
    signed = tuple(given["X-Amz-SignedHeaders"].split(";"))
    token = given.get("X-Amz-Security-Token", "")
    key, day, region, service = scope.groups()
    dated, expires, signature = given["X-Amz-Date"], given["X-Amz-Expires"], given["X-Amz-Signature"]
    return Claim(key, day, region, service, signed, signature, dated, token, expires)


def verify(request: Request, claimed: Claim, secret: str, now: datetime | None = None) -> None:
    """Verify a signature with the secret of its access key. Raises `SignatureError`."""
    _check_time(claimed, now or datetime.now(UTC))
    payload = request.header("x-amz-content-sha256")
    signed = set(claimed.signed_headers)
    if "host" not in signed:
        raise SignatureError("IncompleteSignature", "The host header must be signed.")
    if claimed.service == "s3" and any(
        name.startswith("x-amz-") and name not in signed for name, _ in request.headers
    ):
        raise SignatureError(
            "HeadersNotSigned", "There were headers present in the request which were not signed"
        )
    if claimed.presigned and "x-amz-content-sha256" not in signed:
        payload = UNSIGNED if claimed.service in ENCODED_ONCE else hashlib.sha256(request.body).hexdigest()
    elif not payload:
        payload = hashlib.sha256(request.body).hexdigest()
    elif re.fullmatch(r"[0-9a-f]{64}", payload):
        if payload != hashlib.sha256(request.body).hexdigest():
            if claimed.service != "s3":
                raise mismatch()
            raise SignatureError(
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
    elif payload not in (UNSIGNED, UNSIGNED_CHUNKS, CHUNKS, CHUNKS_AND_TRAILER):
        raise SignatureError("UnsupportedSignature", f"x-amz-content-sha256 {payload} is not supported.")
    sign = _signer(request, claimed, secret, payload)
    if not hmac.compare_digest(sign(None).encode(), claimed.signature.encode()):
        raise mismatch()
    if payload in (CHUNKS, CHUNKS_AND_TRAILER):
        _check_chunks(request.body, claimed, sign, trailer=payload == CHUNKS_AND_TRAILER)


def verify_text(text: str, claimed: Claim, secret: str) -> None:
    """Verify the signature of a text, such as a form's policy. Raises `SignatureError`."""
    sign = _signer(Request("POST", "/", "", ()), claimed, secret, _EMPTY)
    if not hmac.compare_digest(sign(text).encode(), claimed.signature.encode()):
        raise mismatch()


def mismatch() -> SignatureError:
    return SignatureError(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your AWS "
        "Secret Access Key and signing method. Consult the service documentation for details.",
    )


def _check_time(claimed: Claim, now: datetime) -> None:
    try:
        date = datetime.strptime(claimed.date, _DATE).replace(tzinfo=UTC)
    except ValueError as error:
        raise SignatureError(
            "IncompleteSignature", f"X-Amz-Date must have the format {_DATE}, got {claimed.date}"
        ) from error
    if claimed.day != claimed.date[:8]:
        raise SignatureError(
            "CredentialDateMismatch", "The date in the credential scope must be the date of the request."
        )
    if claimed.expires is None:
        if abs(now - date) > SKEW:
            raise SignatureError(
                "RequestTimeTooSkewed",
                f"Signature expired or not yet current: {claimed.date} differs from {now:{_DATE}} "
                f"by more than {SKEW}",
            )
        return
    if not re.fullmatch(r"\d{1,6}", claimed.expires) or int(claimed.expires) > LONGEST:
        raise SignatureError("IncompleteSignature", f"X-Amz-Expires must be from 0 to {LONGEST} seconds.")
    if not date - SKEW <= now <= date + timedelta(seconds=int(claimed.expires)):
        raise SignatureError("RequestExpired", "Request has expired")


_BASE: Any = SigV4Auth
"""`SigV4Auth` without types, because botocore's type stubs lack some of its methods."""


class _Signer(SigV4Auth):
    """Signs what the caller signed: the same headers, the same hash of the body, the same encoding of the
    path."""

    def __init__(self, claimed: Claim, secret: str, headers: HTTPHeaders, payload: str):
        super().__init__(Credentials(claimed.access_key_id, secret), claimed.service, claimed.region)
        self._headers, self._payload = headers, payload
        self._once = claimed.service in ENCODED_ONCE

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        return self._headers

    def payload(self, request: AWSRequest) -> str:
        return self._payload

    def _normalize_url_path(self, path: str) -> str:
        return path if self._once else _BASE._normalize_url_path(self, path)


def _signer(request: Request, claimed: Claim, secret: str, payload: str) -> Callable[[str | None], str]:
    """Return a function that signs its argument within the claim's scope; for None, it signs the request."""
    signed = HTTPHeaders()
    for name, value in request.headers:
        if name in claimed.signed_headers:
            signed.add_header(name, value)
    path = request.raw_path
    if claimed.service in ENCODED_ONCE:
        path = quote(unquote_to_bytes(path), safe="/-_.~")
    left_out = "X-Amz-Signature" if claimed.presigned else None
    pairs: Any = [(name, value) for name, value in request.query if name != left_out]
    sent = AWSRequest(request.method, f"http://host{path}", params=pairs)
    sent.context["timestamp"] = claimed.date
    signer = _Signer(claimed, secret, signed, payload)

    def sign(text: str | None) -> str:
        if text is None:
            text = signer.string_to_sign(sent, signer.canonical_request(sent))
        return str(signer.signature(text, sent))

    return sign


def _check_chunks(body: bytes, claimed: Claim, sign: Callable[[str], str], trailer: bool) -> None:
    """Verify the signatures of a body's chunks. Raises `SignatureError`.

    Each chunk's signature covers the previous chunk's signature; the first one covers the request's
    signature."""
    scope = f"{claimed.day}/{claimed.region}/{claimed.service}/aws4_request"
    head, previous, at = f"{claimed.date}\n{scope}", claimed.signature, 0
    while True:
        end = body.find(b"\r\n", at)
        line = re.fullmatch(
            rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})", body[at:end] if end > 0 else b""
        )
        if line is None:
            raise mismatch()
        size, at = int(line[1], 16), end + 2
        digest = hashlib.sha256(body[at : at + size]).hexdigest()
        expected = sign(f"AWS4-HMAC-SHA256-PAYLOAD\n{head}\n{previous}\n{_EMPTY}\n{digest}")
        if not hmac.compare_digest(expected, line[2].decode()):
            raise mismatch()
        previous, at = expected, at + size + 2
        if size == 0:
            break
    if trailer:
        _check_trailer(body[at - 2 :], head, previous, sign)


def _check_trailer(rest: bytes, head: str, previous: str, sign: Callable[[str], str]) -> None:
    name = b"x-amz-trailer-signature:"
    lines = [line for line in rest.split(b"\r\n") if line]
    given = [line for line in lines if line.startswith(name)]
    canonical = b"".join(line + b"\n" for line in lines if not line.startswith(name))
    digest = hashlib.sha256(canonical).hexdigest()
    expected = sign(f"AWS4-HMAC-SHA256-TRAILER\n{head}\n{previous}\n{digest}")
    if len(given) != 1 or not hmac.compare_digest(expected.encode(), given[0].removeprefix(name).strip()):
        raise mismatch()


def _http_date(value: str) -> str:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(value).astimezone(UTC).strftime(_DATE) if value else ""
    except ValueError:
        return ""


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
