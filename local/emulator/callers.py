"""Authentication of requests: they must be signed with a key that the local cloud issued, even if IAM is not
enforced.

These keys are the root key (`local/keys.py`) and the keys of IAM users and of STS sessions. Unsigned requests
are answered only if AWS answers them too: see `Gate._unsigned`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local import keys
from local.emulator import ministack, signatures
from local.emulator.reach import Cloud, hook, replace, touch
from local.emulator.signatures import Claim, Request, SignatureError

Response = tuple[int, dict[str, Any], bytes]

ONE_MIB = 1 << 20
ADDRESS_SECONDS = 600
"""Validity in seconds of the presigned URL of a function's code, as on AWS."""
UNVERIFIED = ("sts", "cognito-identity", "sso")
"""Services with unsigned calls that AWS authenticates by a token. MiniStack does not verify such tokens."""
CAPABILITIES = ("/_ministack/cfn-response/", "/_ministack/cfn-signal/")
"""Prefixes of paths that have a secret token. AWS has presigned URLs instead."""
DOWNLOADS = ("/_ministack/lambda-code/", "/_ministack/lambda-layers/")
INVOCATIONS = ("/invocations", "/invoke-async/", "/invocations-response-stream")
EMULATOR = ("/_ministack", "/_localstack")
USER_POOL = {
    ("GET", "/oauth2/authorize"), ("GET", "/oauth2/userInfo"), ("POST", "/oauth2/userInfo"),
    ("GET", "/logout"), ("POST", "/login"), ("POST", "/oauth2/login"), ("POST", "/oauth2/token"),
}  # fmt: skip
"""Pages and OpenID Connect endpoints of a Cognito user pool. They need no signature."""
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
"""Content types of request bodies that can name the operation or contain a signed policy."""
S3_CODES = {
    "HeadersNotSigned": (403, "AccessDenied"),
    "XAmzContentSHA256Mismatch": (400, "XAmzContentSHA256Mismatch"),
}
"""HTTP status and error code in S3's response, by `SignatureError.code`, for codes that only S3 has."""

_verified: contextvars.ContextVar[str] = contextvars.ContextVar("verified", default="")
"""Access key of the current request's signature; empty if the request is not signed."""


REACHES: dict[str, tuple[str, ...]] = {
    "app._HEALTH_PATHS": (),
    "app._NON_S3_VHOST_NAMES": (),
    "app._RDS_DATA_PATHS": (),
    "app._S3_CONTROL_PREFIX": (),
    "app._S3_VHOST_EXCLUDE_RE": (),
    "app._SES_V2_PREFIX": (),
    "app._credential_failure": ("service", "iam_action", "request_id", "denied", "headers"),
    "app._execute_api_authorization_type": ("api_id", "stage", "method", "execute_path"),
    "app._extract_s3_vhost_bucket": ("host",),
    "app._function_url_auth_target": ("url_id",),
    "app._is_ecr_registry_path": ("path",),
    "app._is_potential_alb_request": ("host", "path"),
    "app._parse_cloudfront_dataplane_host": ("host",),
    "app._parse_execute_api_url": ("host", "path"),
    "app._parse_lambda_url": ("host", "path"),
    "app._resolve_custom_domain_request": ("host", "path"),
    "app._routing_params": ("method", "path", "headers", "body", "query_params"),
    "app._s3_cors_target": ("host", "path"),
    "core.iam_actions.unsigned_operations": ("service",),
    "core.iam_evaluator.AuthError": ("code", "message"),
    "core.iam_evaluator.find_iam_access_key_account": ("access_key_id",),
    "core.iam_evaluator.resolve_credential": ("access_key_id", "account_id", "session_token"),
    "core.responses._account_from_sts_session": ("access_key_id",),
    "core.responses.get_account_id": (),
    "core.responses.get_region": (),
    "core.router.detect_service": ("method", "path", "headers", "query_params"),
    "services.apigateway._match_ws_route": ("api_id", "route_key"),
    "services.apigateway.find_api_scope": ("api_id",),
    "services.apigateway_v1.authentication_error_response": (
        "api_id",
        "stage_name",
        "error",
        "headers",
        "query_params",
    ),
    "services.cloudfront.find_distribution_for_label": ("label",),
    "services.cognito._get_pool_unscoped": ("pool_id",),
    "services.s3._bucket_owner_account": ("name",),
    "services.s3._error": ("code", "message", "status"),
    "services.s3._foreign_bucket_allows": (
        "owner_account",
        "bucket_name",
        "key",
        "method",
        "query_params",
        "caller",
        "headers",
    ),
    "services.s3._parse_bucket_key": ("path", "headers"),
    "services.s3._parse_multipart_form": ("content_type", "body"),
    "services.s3.cors_response_headers": ("bucket_name", "method", "headers"),
    "services.sts.register_session": ("access_key", "session"),
}
"""Functions and data of MiniStack that this module uses at each request, with the expected parameters."""


@functools.cache
def reach(name: str) -> Any:
    return touch(name, *REACHES[name])


@hook
def calls_are_signed(cloud: Cloud) -> None:
    """MiniStack answers any caller. `Gate` checks each request first, using MiniStack's keys and routes."""
    for name, parameters in REACHES.items():
        touch(name, *parameters)


# Keys -------------------------------------------------------------------------------------------------


def register_root(key: keys.Key, account: str) -> None:
    """Register a key as a root key of an account."""
    reach("services.sts.register_session")(
        key.access_key_id,
        {
            "Arn": f"arn:aws:iam::{account}:root",
            "UserId": account,
            "SecretAccessKey": key.secret_access_key,
            "AccountId": account,
            "PrincipalType": "Root",
        },
    )


_own_keys: dict[str, keys.Key] = {}
_own_lock = threading.Lock()


def own_key(account: str) -> keys.Key:
    """Return the key with which the cloud itself acts in an account. The secret never leaves this process."""
    with _own_lock:
        if account not in _own_keys:
            _own_keys[account] = keys.new()
            register_root(_own_keys[account], account)
        return _own_keys[account]


def secret_of(claim: Claim) -> str:
    """Return the secret of a request's access key.

    Raises `SignatureError` if the key is unknown, inactive or expired, or the session token is wrong."""
    key = claim.access_key_id
    try:
        account = reach("core.iam_evaluator.find_iam_access_key_account")(key)
    except ValueError:  # several accounts have this key
        account = None
    account = account or reach("core.responses._account_from_sts_session")(key)
    resolve = reach("core.iam_evaluator.resolve_credential")
    found = resolve(key, account or reach("core.responses.get_account_id")(), claim.token)
    if hasattr(found, "secret_access_key"):
        return found.secret_access_key
    # A session's key without its token counts as an unknown key
    code = found.code if found.code != "InvalidToken" or claim.token else "UnrecognizedClientException"
    raise SignatureError(code, found.message)


@hook
def only_issued_keys_are_known(cloud: Cloud) -> None:
    """MiniStack accepts `test` and account numbers as root keys, and does not check their signatures."""
    for module in ("core.iam_evaluator", "services.sts"):

        @replace(f"{module}.is_root_access_key", "access_key_id")
        def is_root(original: Callable, access_key_id: str) -> bool:
            return not access_key_id  # empty for an unsigned request


@hook
def iam_routes_want_a_signature(cloud: Cloud) -> None:
    """While IAM is not enforced, MiniStack lets any caller use API Gateway routes with IAM authorization."""
    authorization = reach("app._execute_api_authorization_type")
    failure = reach("services.apigateway_v1.authentication_error_response")  # fmt: skip
    error = reach("core.iam_evaluator.AuthError")

    @replace(
        "app._enforce_execute_api",
        "api_id", "stage", "method", "execute_path", "headers", "query_params", "iam_action",
    )  # fmt: skip
    def enforce(
        original: Callable, api_id: str, stage: str, method: str, path: str, headers: dict, query: dict,
        iam_action: str = "execute-api:Invoke",
    ) -> Response | None:  # fmt: skip
        wanted = iam_action != "execute-api:Invoke" or authorization(api_id, stage, method, path) == "AWS_IAM"
        if wanted and not _verified.get():
            missing = error("MissingAuthenticationToken", "Missing Authentication Token")
            return failure(api_id, stage, missing, headers, query) or (
                403,
                {"Content-Type": "application/json", "x-amzn-errortype": "ForbiddenException"},
                b'{"message":"Forbidden"}',
            )
        return original(api_id, stage, method, path, headers, query, iam_action)


@hook
def downloads_have_presigned_addresses(cloud: Cloud) -> None:
    """MiniStack's URLs for the code of functions and layers have no valid signature: anyone can download
    it."""
    here = reach("core.responses.get_account_id"), reach("core.responses.get_region")

    def presigned(address: str) -> str:
        account, region = (get() for get in here)
        key = own_key(account)
        request = AWSRequest("GET", address.partition("?")[0])
        credentials = Credentials(key.access_key_id, key.secret_access_key)
        SigV4QueryAuth(credentials, "lambda", region, expires=ADDRESS_SECONDS).add_auth(request)
        return request.url or ""

    for name in ("_presigned_code_url", "_layer_content_url"):

        @replace(f"services.lambda_svc.{name}")
        def address_of(original: Callable, *given: Any) -> str:
            return presigned(original(*given))


# Requests ---------------------------------------------------------------------------------------------


class RefusedError(Exception):
    """A request is refused with AWS's error code and a message."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


@dataclass
class Admitted:
    """A request that passed authentication."""

    receive: Callable
    request: Request
    path: str

    @property
    def headers(self) -> dict[str, str]:
        return _headers(self.request)

    @property
    def length(self) -> int:
        """Size of the body in bytes."""
        said = self.request.header("content-length")
        return int(said) if said.isdecimal() else len(self.request.body)

    @property
    def parameters(self) -> dict[str, list[str]]:
        """Parameters of the query, and of the body of a form."""
        return _parameters(self.request, self.path)

    @functools.cached_property
    def called(self) -> tuple[str, str]:
        """Service and operation. The operation is empty if only the method and path define it."""
        service, operation = _called(self.request, self.path)
        return service, operation or self.path.partition("/operation/")[2]

    @property
    def is_data_plane(self) -> bool:
        """Whether the request is to a function, a model or a page, not to an operation of a service."""
        host = self.request.header("host")
        return (
            self.path.endswith(INVOCATIONS)
            or self.path.startswith(CAPABILITIES)
            or _of_an_api(host, self.path)
            or _distribution(host)
            or reach("app._parse_lambda_url")(host, self.path) is not None
        )


class Gate:
    """Admits requests that are signed with a key of this cloud, and requests that need no signature."""

    def __init__(self, key: keys.Key, account: str):
        self._key = key
        register_root(key, account)

    async def admit(self, scope: dict, receive: Callable, send: Callable) -> Admitted | None:
        """Return the admitted request, or None after an error response was sent."""
        request = Request.of(scope)
        path = scope["path"]
        if _preflight(request, path):
            # even if the URL is presigned: its signature is for another method
            return Admitted(receive, request, path)
        try:
            claim = signatures.claim(request)
            if claim is None and not request.header("content-type").startswith(FORMS):
                self._unsigned(request, path)
                _verified.set("")
                return Admitted(receive, request, path)
        except (SignatureError, RefusedError) as refused:
            return await _refuse(request, path, refused, send)
        body = await _body(receive)
        if body is None:
            return None
        request = Request.of(scope, body)
        try:
            if claim is None and request.header("content-type").startswith(FORMS[0]):
                self._form(request, path)
            elif claim is None:
                self._unsigned(request, path)
                _verified.set("")
            else:
                await self._verify(request, claim, path)
                _verified.set(claim.access_key_id)
        except (SignatureError, RefusedError) as refused:
            return await _refuse(request, path, refused, send)
        return Admitted(_again(body, receive), request, path)

    async def admit_owner(self, scope: dict, receive: Callable) -> bytes:
        """Return the body of a request to `/_groundplan/`, the cloud's administration.

        Raises `SignatureError` unless the request is signed with the cloud's root key."""
        claim = signatures.claim(Request.of(scope))
        if claim is None:
            raise SignatureError(
                "MissingAuthenticationToken",
                "The request must be signed with the key in the cloud's credentials.json.",
            )
        if (claim.access_key_id, claim.service) != (self._key.access_key_id, keys.SERVICE):
            raise SignatureError(
                "InvalidClientTokenId", "The request must be signed with this cloud's own root key."
            )
        body = await _body(receive) or b""
        signatures.verify(Request.of(scope, body), claim, self._key.secret_access_key)
        return body

    async def admit_socket(self, scope: dict) -> bool:
        """Return whether to open a WebSocket: the request has a valid signature, or the API needs none."""
        request = Request.of(scope)
        try:
            claim = signatures.claim(request)
            if claim is not None:
                await self._verify(request, claim, scope["path"])
                return True
        except (SignatureError, RefusedError):
            return False
        found = reach("app._parse_execute_api_url")(request.header("host"), scope["path"])
        place = found and reach("services.apigateway.find_api_scope")(found[0])
        if not place:
            return False
        with ministack.scope(*place):
            route = reach("services.apigateway._match_ws_route")(found[0], "$connect")
        return (route or {}).get("authorizationType") != "AWS_IAM"

    async def _verify(self, request: Request, claim: Claim, path: str) -> None:
        own = claim.access_key_id in {key.access_key_id for key in _own_keys.values()}
        if path.startswith(EMULATOR) and not (own and path.startswith(DOWNLOADS)):
            raise RefusedError("AccessDeniedException", "The emulator's internal paths are not accessible.")
        secret = secret_of(claim)
        if len(request.body) > ONE_MIB:
            await asyncio.to_thread(signatures.verify, request, claim, secret)
        else:
            signatures.verify(request, claim, secret)

    def _unsigned(self, request: Request, path: str) -> None:
        """Raise `RefusedError` for a request that AWS would not answer without a signature.

        Allowed are: URLs with a secret token, for custom resources and wait conditions; CORS preflights;
        requests to CloudFront distributions and to API Gateway routes (whose authorizers decide); function
        URLs without IAM; pages and public calls of user pools; and requests that a bucket's policy or ACL
        makes public. The checks have the order of MiniStack's routing, so that a request is routed to the
        target that it was allowed for.
        """
        host = request.header("host")
        if path.startswith(EMULATOR) or reach("app._HEALTH_PATHS").count(path):
            if request.method == "PUT" and path.startswith(CAPABILITIES):
                return
            raise _missing()
        if (request.method, path) in USER_POOL or (request.method == "GET" and _keys_of_a_pool(path)):
            return
        if _preflight(request, path) or _shadowed(path):
            if _preflight(request, path):
                return
            raise _missing()
        if _distribution(host) or _of_an_api(host, path):
            return
        if function := reach("app._parse_lambda_url")(host, path):
            about = reach("app._function_url_auth_target")(function[0])[1]
            if about.get("lambda:FunctionUrlAuthType") == "NONE":
                return
            raise _missing()
        bucket = bucket_of(host)
        service, operation = ("s3", "") if bucket else _called(request, path)
        if path == "/" and operation in reach("core.iam_actions.unsigned_operations")(service):
            if service in UNVERIFIED:
                raise RefusedError(
                    "AccessDeniedException", f"The local cloud does not verify the token of {operation}."
                )
            return
        if service != "s3" or not _public(request, f"/{bucket}{path}" if bucket else path):
            raise _missing()

    def _form(self, request: Request, path: str) -> None:
        """Check a browser's upload form, whose policy is signed. Check a form without a signature as an
        unsigned request.

        Raises `SignatureError` and `RefusedError`."""
        parse = reach("services.s3._parse_multipart_form")
        parts = parse(request.header("content-type"), request.body)
        fields = {name.lower(): value.decode("latin-1") for name, _, _, value in parts if name != "file"}
        if "awsaccesskeyid" in fields or "signature" in fields:
            raise SignatureError("UnsupportedSignature", f"The algorithm must be {signatures.ALGORITHM}.")
        if not {"x-amz-credential", "x-amz-signature"} & set(fields) or not _uploads(request, path):
            _verified.set("")
            return self._unsigned(request, path)
        scope = re.fullmatch(signatures.SCOPE, fields.get("x-amz-credential", ""))
        if scope is None or len(fields) != len([name for name, *_ in parts if name != "file"]):
            raise SignatureError(
                "IncompleteSignature", "A form must have a valid X-Amz-Credential, and each field only once."
            )
        key, day, region, service = scope.groups()
        claim = Claim(
            key,
            day,
            region,
            service,
            signed_headers=(),
            signature=fields.get("x-amz-signature", ""),
            date=fields.get("x-amz-date", ""),
            token=fields.get("x-amz-security-token", ""),
        )
        signatures.verify_text(fields.get("policy", ""), claim, secret_of(claim))
        _verified.set(claim.access_key_id)


def _missing() -> RefusedError:
    return RefusedError("MissingAuthenticationToken", "Request is missing Authentication Token")


def _distribution(host: str) -> bool:
    label = reach("app._parse_cloudfront_dataplane_host")(host)
    found = reach("services.cloudfront.find_distribution_for_label")
    return label is not None and found(label) is not None


def _of_an_api(host: str, path: str) -> bool:
    parsers = ("app._parse_execute_api_url", "app._resolve_custom_domain_request")
    return any(reach(name)(host, path) is not None for name in parsers)


def _preflight(request: Request, path: str) -> bool:
    """Return whether the request is a CORS preflight request that MiniStack answers itself."""
    host = request.header("host")
    return (
        request.method == "OPTIONS"
        and not _of_an_api(host, path)
        and reach("app._parse_lambda_url")(host, path) is None
        and reach("app._parse_cloudfront_dataplane_host")(host) is None
        and not reach("app._is_potential_alb_request")(host, path)
    )


def _shadowed(path: str) -> bool:
    """Return whether MiniStack routes this path to a service regardless of the host."""
    prefixes = (
        "/iceberg",
        "/WriteGetObjectResponse",
        reach("app._S3_CONTROL_PREFIX"),
        reach("app._SES_V2_PREFIX"),
    )
    return (
        path.startswith(prefixes)
        or path in reach("app._RDS_DATA_PATHS")
        or reach("app._is_ecr_registry_path")(path)
    )


def bucket_of(host: str) -> str:
    """Return the bucket in a host name; empty if there is none."""
    bucket = reach("app._extract_s3_vhost_bucket")(host) or ""
    excluded = reach("app._S3_VHOST_EXCLUDE_RE").search(host) or bucket in reach("app._NON_S3_VHOST_NAMES")
    return "" if excluded else bucket


def _uploads(request: Request, path: str) -> bool:
    """Return whether the request is an upload form to a bucket. The form's policy is checked later."""
    bucket = bucket_of(request.header("host"))
    _, key = reach("services.s3._parse_bucket_key")(f"/{bucket}{path}" if bucket else path, {})
    to_s3 = bool(bucket) or _called(request, path)[0] == "s3"
    return to_s3 and not key and not path.startswith(EMULATOR) and not _shadowed(path)


def _keys_of_a_pool(path: str) -> bool:
    pool, found, _ = path.lstrip("/").partition("/.well-known/")
    return bool(found) and reach("services.cognito._get_pool_unscoped")(pool) is not None


def _headers(request: Request) -> dict[str, str]:
    return {name: request.header(name) for name, _ in request.headers}


def _called(request: Request, path: str) -> tuple[str, str]:
    """Return the service and operation of a request. The operation is empty if the request lacks it."""
    headers, query = _headers(request), _parameters(request, path)
    detect = reach("core.router.detect_service")
    target = headers.get("x-amz-target", "").rpartition(".")[2]
    return detect(request.method, path, headers, query), target or query.get("Action", [""])[0]


def _parameters(request: Request, path: str) -> dict[str, list[str]]:
    query = parse_qs(request.raw_query, keep_blank_values=True)
    return reach("app._routing_params")(request.method, path, _headers(request), request.body, query)


def _public(request: Request, path: str) -> bool:
    """Return whether a bucket's policy or ACL makes this request public.

    :param path: begins with the bucket's name
    """
    headers, query = _headers(request), parse_qs(request.raw_query, keep_blank_values=True)
    bucket, key = reach("services.s3._parse_bucket_key")(path, headers)
    owner = reach("services.s3._bucket_owner_account")(bucket) if bucket else None
    of_a_query = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    # MiniStack reads headers from the query too, signed or not
    hoisted = any(name.lower().startswith("x-amz-") for name in query)
    if owner is None or of_a_query or hoisted or "x-amz-copy-source" in headers:
        return False
    allows = reach("services.s3._foreign_bucket_allows")  # fmt: skip
    return allows(owner, bucket, key, request.method, query, "", headers)


# Bodies and responses ---------------------------------------------------------------------------------


async def _body(receive: Callable) -> bytes | None:
    """Return the whole body, or None if the caller disconnected."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _again(body: bytes, receive: Callable) -> Callable:
    """Return an ASGI `receive` function that first returns `body`, which was already read."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> dict:
        return messages.pop() if messages else await receive()

    return receive_again


async def _refuse(
    request: Request, path: str, refused: SignatureError | RefusedError, send: Callable
) -> None:
    """Send an error response in the protocol of the called service."""
    headers, service = _headers(request), _called(request, path)[0]
    identifier = str(uuid.uuid4())
    if service == "s3" and (special := S3_CODES.get(refused.code)):
        make = reach("services.s3._error")
        status, answered, body = make(special[1], refused.message, special[0])
    else:
        fail = reach("app._credential_failure")
        error = reach("core.iam_evaluator.AuthError")(refused.code, refused.message)
        status, answered, body = fail(service, "", identifier, error, headers)
    answered = dict(answered) | {"x-amzn-requestid": identifier, "x-amz-request-id": identifier}
    if service == "s3" and (target := reach("app._s3_cors_target")(headers.get("host", ""), path)):
        # So that JavaScript on a page can read the error of its upload
        cors = reach("services.s3.cors_response_headers")
        answered |= cors(target[0], request.method, headers)
    pairs = [(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in answered.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})
