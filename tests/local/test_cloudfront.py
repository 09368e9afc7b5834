"""A page behind CloudFront in a browser on this machine: its files, API, uploads and sign-in, and refused
requests of other pages."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.cloud import LocalCloud
from tests.support.waiting import until

REGION = "eu-west-1"
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
ALL_VIEWER_EXCEPT_HOST = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
API = """
import json
def handler(event, context):
    claims = event["requestContext"].get("authorizer", {}).get("jwt", {}).get("claims", {})
    said = {"path": event["rawPath"], "sub": claims.get("sub"), "query": event.get("queryStringParameters"),
            "body": event.get("body")}
    status = int((event.get("queryStringParameters") or {}).get("status", 201))
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(said)}
"""
PASSWORD = "Correct-horse-1"


def template() -> dict[str, Any]:
    def ref(name: str) -> dict[str, str]:
        return {"Ref": name}

    def get(name: str, attribute: str) -> dict[str, list[str]]:
        return {"Fn::GetAtt": [name, attribute]}

    def sub(text: str) -> dict[str, str]:
        return {"Fn::Sub": text}

    assume = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    read = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudfront.amazonaws.com"},
        "Action": "s3:GetObject",
        "Resource": sub("${Site.Arn}/*"),
        "Condition": {
            "StringEquals": {
                "AWS:SourceArn": sub("arn:aws:cloudfront::${AWS::AccountId}:distribution/${Distribution}")
            }
        },
    }
    insecure = {
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "s3:*",
        "Resource": [get("Site", "Arn"), sub("${Site.Arn}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    signing = {"OriginAccessControlOriginType": "s3", "SigningBehavior": "always", "SigningProtocol": "sigv4"}
    block = dict.fromkeys(
        ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
    )
    distribution = {
        "Enabled": True,
        "DefaultRootObject": "index.html",
        "Origins": [
            {
                "Id": "site",
                "DomainName": get("Site", "RegionalDomainName"),
                "OriginAccessControlId": get("Access", "Id"),
                "S3OriginConfig": {"OriginAccessIdentity": ""},
            },
            {
                "Id": "api",
                "DomainName": sub("${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}"),
                "CustomOriginConfig": {
                    "OriginProtocolPolicy": "https-only",
                    "OriginSSLProtocols": ["TLSv1.2"],
                },
            },
        ],
        "DefaultCacheBehavior": {
            "TargetOriginId": "site",
            "ViewerProtocolPolicy": "redirect-to-https",
            "CachePolicyId": CACHING_DISABLED,
            "ResponseHeadersPolicyId": ref("Headers"),
        },
        "CacheBehaviors": [
            {
                "PathPattern": "/api/*",
                "TargetOriginId": "api",
                "ViewerProtocolPolicy": "https-only",
                "AllowedMethods": ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"],
                "CachePolicyId": CACHING_DISABLED,
                "OriginRequestPolicyId": ALL_VIEWER_EXCEPT_HOST,
            }
        ],
        "CustomErrorResponses": [{"ErrorCode": 503, "ErrorCachingMinTTL": 0}],
    }
    headers = {"SecurityHeadersConfig": {"FrameOptions": {"FrameOption": "DENY", "Override": True}}}
    cors = {
        "AllowedOrigins": [sub("https://${Distribution.DomainName}")],
        "AllowedMethods": ["POST"],
        "AllowedHeaders": ["*"],
    }
    resources = {
        "Site": ("AWS::S3::Bucket", {"PublicAccessBlockConfiguration": block}),
        "Data": (
            "AWS::S3::Bucket",
            {"PublicAccessBlockConfiguration": block, "CorsConfiguration": {"CorsRules": [cors]}},
        ),
        "SitePolicy": (
            "AWS::S3::BucketPolicy",
            {
                "Bucket": ref("Site"),
                "PolicyDocument": {"Version": "2012-10-17", "Statement": [read, insecure]},
            },
        ),
        "Access": (
            "AWS::CloudFront::OriginAccessControl",
            {"OriginAccessControlConfig": {"Name": sub("${AWS::StackName}-oac")} | signing},
        ),
        "Headers": (
            "AWS::CloudFront::ResponseHeadersPolicy",
            {"ResponseHeadersPolicyConfig": {"Name": sub("${AWS::StackName}-headers")} | headers},
        ),
        "Distribution": ("AWS::CloudFront::Distribution", {"DistributionConfig": distribution}),
        "Users": ("AWS::Cognito::UserPool", {}),
        "Client": (
            "AWS::Cognito::UserPoolClient",
            {"UserPoolId": ref("Users"), "ExplicitAuthFlows": ["ALLOW_USER_PASSWORD_AUTH"]},
        ),
        "Role": (
            "AWS::IAM::Role",
            {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [assume]}},
        ),
        "Function": (
            "AWS::Lambda::Function",
            {
                "Runtime": "python3.11",
                "Handler": "index.handler",
                "Role": get("Role", "Arn"),
                "Code": {"ZipFile": API},
            },
        ),
        "Api": ("AWS::ApiGatewayV2::Api", {"Name": "api", "ProtocolType": "HTTP"}),
        "Stage": (
            "AWS::ApiGatewayV2::Stage",
            {"ApiId": ref("Api"), "StageName": "$default", "AutoDeploy": True},
        ),
        "Authorizer": (
            "AWS::ApiGatewayV2::Authorizer",
            {
                "ApiId": ref("Api"),
                "Name": "jwt",
                "AuthorizerType": "JWT",
                "IdentitySource": ["$request.header.Authorization"],
                "JwtConfiguration": {
                    "Audience": [ref("Client")],
                    "Issuer": sub("https://cognito-idp.${AWS::Region}.${AWS::URLSuffix}/${Users}"),
                },
            },
        ),
        "Integration": (
            "AWS::ApiGatewayV2::Integration",
            {
                "ApiId": ref("Api"),
                "IntegrationType": "AWS_PROXY",
                "IntegrationUri": get("Function", "Arn"),
                "PayloadFormatVersion": "2.0",
            },
        ),
        "Route": (
            "AWS::ApiGatewayV2::Route",
            {
                "ApiId": ref("Api"),
                "RouteKey": "ANY /api/{proxy+}",
                "AuthorizationType": "JWT",
                "AuthorizerId": ref("Authorizer"),
                "Target": sub("integrations/${Integration}"),
            },
        ),
        "Permission": (
            "AWS::Lambda::Permission",
            {
                "FunctionName": get("Function", "Arn"),
                "Action": "lambda:InvokeFunction",
                "Principal": "apigateway.amazonaws.com",
                "SourceArn": sub("arn:aws:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/*/*/*"),
            },
        ),
    }
    outputs = {
        "Domain": get("Distribution", "DomainName"),
        "Site": ref("Site"),
        "Data": ref("Data"),
        "Users": ref("Users"),
        "Client": ref("Client"),
    }
    return {
        "Resources": {name: {"Type": kind, "Properties": props} for name, (kind, props) in resources.items()},
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Page:
    """A simulated browser with the distribution's page."""

    cloud: LocalCloud
    outputs: dict[str, str]

    @property
    def host(self) -> str:
        return f"{self.outputs['Domain'].partition('.')[0]}.cloudfront.localhost:{self.cloud.port}"

    @property
    def origin(self) -> str:
        return f"http://{self.host}"

    def send(self, path: str, method: str = "GET", body: bytes | None = None, /, **headers: str) -> Reply:
        """Send a request to the distribution. Browsers resolve `*.localhost` to the loopback."""
        return send(f"{self.cloud.endpoint_url}{path}", method, body, {"Host": self.host} | headers)

    def fetch(self, url: str, method: str, body: bytes | None, **headers: str) -> Reply:
        """Send a request to another origin, as the page's script would."""
        return send(url, method, body, {"Origin": self.origin, "Sec-Fetch-Site": "cross-site"} | headers)


def send(url: str, method: str, body: bytes | None, headers: dict[str, str]) -> Reply:
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310
    opener = urllib.request.build_opener(NoRedirects)
    try:
        with opener.open(request, timeout=30) as answer:
            return Reply(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@pytest.fixture(scope="module")
def page(cloud: LocalCloud, aws: Callable[..., Any]) -> Iterator[Page]:
    """The deployed stack with its page in the bucket, and with IAM enforced."""
    stack = f"page-{uuid.uuid4().hex[:8]}"
    formation = aws("cloudformation")
    formation.create_stack(
        StackName=stack, TemplateBody=json.dumps(template()), Capabilities=["CAPABILITY_IAM"]
    )

    def made() -> Any:
        (found,) = formation.describe_stacks(StackName=stack)["Stacks"]
        if found["StackStatus"].endswith("_IN_PROGRESS"):
            return None
        assert found["StackStatus"] == "CREATE_COMPLETE", formation.describe_stack_events(StackName=stack)
        return {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}

    outputs = until(made, "the creation of the stack")
    s3 = aws("s3")
    s3.put_object(Bucket=outputs["Site"], Key="index.html", Body=b"<h1>page</h1>", ContentType="text/html")
    s3.put_object(Bucket=outputs["Site"], Key="js/app.js", Body=b"go()", ContentType="text/javascript")
    users = {"UserPoolId": outputs["Users"], "Username": "somebody"}
    aws("cognito-idp").admin_create_user(**users)
    aws("cognito-idp").admin_set_user_password(**users, Password=PASSWORD, Permanent=True)
    cloud.enforce_iam(True)
    yield Page(cloud, outputs)
    cloud.enforce_iam(False)


def token(page: Page) -> str:
    """Sign in as the page does, without an SDK; return the token."""
    request = {
        "AuthFlow": "USER_PASSWORD_AUTH",
        "ClientId": page.outputs["Client"],
        "AuthParameters": {"USERNAME": "somebody", "PASSWORD": PASSWORD},
    }
    answer = page.fetch(
        page.cloud.endpoint_url + "/",
        "POST",
        json.dumps(request).encode(),
        **{
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "AWSCognitoIdentityProviderService.InitiateAuth",
        },
    )
    assert answer.status == 200, answer.body
    assert answer.headers["access-control-allow-origin"] in ("*", page.origin)
    return json.loads(answer.body)["AuthenticationResult"]["IdToken"]


def test_page_is_served_from_a_bucket_private_to_the_distribution(page: Page) -> None:
    index, script = page.send("/"), page.send("/js/app.js", **{"Sec-Fetch-Site": "same-origin"})
    assert (index.status, index.body) == (200, b"<h1>page</h1>")
    assert index.headers["content-type"] == "text/html"
    assert (script.status, script.body) == (200, b"go()")
    assert page.send("/nowhere.html").status in (403, 404)
    direct = send(f"{page.cloud.endpoint_url}/{page.outputs['Site']}/index.html", "GET", None, {})
    assert direct.status == 403


def test_responses_have_the_headers_of_the_policy(page: Page) -> None:
    assert page.send("/").headers["x-frame-options"] == "DENY"


def test_distribution_caches_errors_unless_their_ttl_is_0(page: Page) -> None:
    # Given two users, one of whom gets an error whose status has no TTL in the distribution
    one, other = ({"Authorization": f"Bearer {token(page)}"} for _ in range(2))
    assert page.send("/api/kept?status=502", **one).status == 502

    # Then the other user gets the cached error too, and an error with a TTL of 0 is not cached
    assert page.send("/api/kept", **other).status == 502
    assert page.send("/api/not-kept?status=503", **one).status == 503
    assert page.send("/api/not-kept", **other).status == 201


def test_page_is_served_without_enforced_iam(page: Page) -> None:
    page.cloud.enforce_iam(False)
    try:
        assert page.send("/").status == 200
    finally:
        page.cloud.enforce_iam(True)


def test_api_answers_behind_the_page_with_the_callers_claims(page: Page) -> None:
    # Given a user who signed in from the page
    signed = {"Authorization": f"Bearer {token(page)}", "Origin": page.origin}

    answer = page.send(
        "/api/models?limit=2", "POST", b'{"name": "cat"}', **signed, **{"Content-Type": "application/json"}
    )

    said = json.loads(answer.body)
    assert answer.status == 201, answer
    assert (said["path"], said["query"], said["body"]) == (
        "/api/models",
        {"limit": "2"},
        '{"name": "cat"}',
    )
    assert said["sub"]
    assert page.send("/api/models", "DELETE", None, **signed).status == 201
    # and requests without a valid token are refused
    assert page.send("/api/models").status == 401
    assert page.send("/api/models", Authorization="Bearer no.token.this").status == 401


def test_cors_allows_sign_in_from_the_page(page: Page) -> None:
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-amz-target",
    }
    preflight = page.fetch(page.cloud.endpoint_url + "/", "OPTIONS", None, **asks)
    assert preflight.status in (200, 204)
    assert preflight.headers["access-control-allow-origin"] in ("*", page.origin)
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert allowed == "*" or "x-amz-target" in allowed
    assert token(page).count(".") == 2


def form(fields: dict[str, str], content: bytes) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
    parts += [f"{head}Content-Type: image/png\r\n\r\n".encode(), content, f"\r\n--{boundary}--\r\n".encode()]
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def presigned(aws: Callable[..., Any], page: Page, key: str, most: int = 100) -> dict[str, Any]:
    return aws("s3").generate_presigned_post(
        page.outputs["Data"],
        key,
        Fields={"Content-Type": "image/png"},
        Conditions=[{"Content-Type": "image/png"}, ["content-length-range", 1, most]],
    )


def test_page_uploads_to_the_bucket_with_a_presigned_form(aws: Callable[..., Any], page: Page) -> None:
    post = presigned(aws, page, "uploads/somebody/00")
    body, kind = form(post["fields"], b"an image")

    preflight = page.fetch(post["url"], "OPTIONS", None, **{"Access-Control-Request-Method": "POST"})
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] in ("*", page.origin)
    answer = page.fetch(post["url"], "POST", body, **{"Content-Type": kind})

    assert answer.status == 204, answer
    assert answer.headers["access-control-allow-origin"] in ("*", page.origin)
    assert aws("s3").get_object(Bucket=page.outputs["Data"], Key=post["fields"]["key"])["Body"].read() == (
        b"an image"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"content": b"x" * 101},
        {"content": b""},
        {"key": "uploads/another/00"},
        {"Content-Type": "text/html"},
        {"policy": ""},
        {"x-amz-signature": "0" * 64},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_upload_that_differs_from_its_signature_is_refused(
    aws: Callable[..., Any], page: Page, changed: dict[str, Any]
) -> None:
    post = presigned(aws, page, f"uploads/refused/{uuid.uuid4().hex}")
    content = changed.get("content", b"an image")
    fields = post["fields"] | {key: value for key, value in changed.items() if key != "content"}
    body, kind = form(fields, content)

    answer = page.fetch(post["url"], "POST", body, **{"Content-Type": kind})

    assert answer.status in (400, 403), answer
    assert answer.headers["access-control-allow-origin"] in ("*", page.origin), (
        "the page must be allowed to read the error"
    )
    left = aws("s3").list_objects_v2(Bucket=page.outputs["Data"], Prefix="uploads/").get("Contents", [])
    assert [each["Key"] for each in left if each["Key"] in (fields["key"], post["fields"]["key"])] == []


@pytest.mark.parametrize("origin", ["https://evil.example", "http://cloudfront.localhost.evil.example"])
def test_requests_from_another_origin_are_refused(aws: Callable[..., Any], page: Page, origin: str) -> None:
    post = presigned(aws, page, "uploads/foreign")
    body, kind = form(post["fields"], b"an image")
    foreign = {"Origin": origin}

    assert page.send("/", **foreign).status == 403
    assert page.send("/api/models", **foreign).status == 403
    assert send(post["url"], "POST", body, foreign | {"Content-Type": kind}).status == 403
    target = {"X-Amz-Target": "AWSCognitoIdentityProviderService.InitiateAuth"}
    assert send(page.cloud.endpoint_url, "POST", b"{}", foreign | target).status == 403
