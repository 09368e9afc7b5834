"""Callers of the local cloud with IAM off: requests must be signed with a key that the cloud issued."""

from __future__ import annotations

import http.client
import io
import json
import stat
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from local import keys
from local.cloud import ACCOUNT, CloudError, LocalCloud
from tests.support.clouds import client, own_keys
from tests.support.waiting import until

READS: dict[str, Callable[[Any], Any]] = {
    "sts": lambda call: call.get_caller_identity(),
    "s3": lambda call: call.list_buckets(),
    "dynamodb": lambda call: call.list_tables(),
    "sqs": lambda call: call.list_queues(),
    "cloudwatch": lambda call: call.list_metrics(),
    "cloudformation": lambda call: call.list_stacks(),
    "lambda": lambda call: call.list_functions(),
    "cloudfront": lambda call: call.list_distributions(),
    "sagemaker": lambda call: call.list_models(),
    "sagemaker-runtime": lambda call: call.invoke_endpoint(EndpointName="none", Body=b""),
    "application-autoscaling": lambda call: call.describe_scalable_targets(ServiceNamespace="sagemaker"),
}
UNKNOWN = {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"}
WRONG = {"SignatureDoesNotMatch", "InvalidSignatureException"}
MISSING = {"MissingAuthenticationToken", "MissingAuthenticationTokenException", "AccessDenied", "403"}
CODE = """
import json, os, boto3
def handler(event, context):
    if event.get("keys"):
        names = "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"
        return {name: os.environ["AWS_" + name] for name in names}
    return boto3.client("sts").get_caller_identity()["Arn"]
"""


def refusal(call: Callable[[], Any]) -> str:
    """Return the code of the error that AWS's SDK raises."""
    with pytest.raises(ClientError) as refused:
        call()
    return refused.value.response["Error"]["Code"]


def fetch(
    url: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Send a request without adding a signature; return status, body and headers of the response."""
    place = urlsplit(url)
    address = url.replace(place.netloc, f"127.0.0.1:{place.port}", 1)
    request = urllib.request.Request(address, body, {"Host": place.netloc} | headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


@pytest.fixture(scope="module")
def function(aws: Callable) -> str:
    """The name of a Lambda function that returns the identity with which it calls AWS."""
    name = f"credentials-{uuid.uuid4().hex[:8]}"
    return make_function(aws, name)


def make_function(aws: Callable, name: str) -> str:
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = aws("iam").create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )["Role"]["Arn"]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.py", CODE)
    aws("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="index.handler",
        Role=role,
        Code={"ZipFile": archive.getvalue()},
        Timeout=60,
    )
    return name


def invoke(aws: Callable, name: str, **event: Any) -> Any:
    answer = aws("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
    said = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, said
    return said


@pytest.fixture(scope="module")
def bucket(cloud: LocalCloud, aws: Callable) -> str:
    name = f"credentials-{uuid.uuid4().hex[:8]}"
    place = {"LocationConstraint": cloud.region}
    aws("s3").create_bucket(Bucket=name, CreateBucketConfiguration=place)
    aws("s3").put_object(Bucket=name, Key="a b/ü.txt", Body=b"hidden")
    return name


# Keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", READS)
def test_only_an_issued_key_is_accepted(cloud: LocalCloud, service: Any) -> None:
    call = READS[service]
    # given the cloud's own key, then the call succeeds
    if service == "sagemaker-runtime":
        assert refusal(lambda: call(client(cloud, service))) == "ValidationError"
    else:
        call(client(cloud, service))
    # then invented keys, an account id as a key, and another cloud's key are unknown
    other = keys.new()
    for key, secret in (("test", "test"), (ACCOUNT, "test"), (other.access_key_id, other.secret_access_key)):
        made_up = {"aws_access_key_id": key, "aws_secret_access_key": secret}
        assert refusal(lambda made_up=made_up: call(client(cloud, service, **made_up))) in UNKNOWN
    # and a wrong secret, or none at all, is refused
    wrong = own_keys(cloud) | {"aws_secret_access_key": "test"}
    assert refusal(lambda: call(client(cloud, service, **wrong))) in WRONG
    unsigned = boto3.client(
        service,
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        config=Config(signature_version=UNSIGNED),
    )
    assert refusal(lambda: call(unsigned)) in MISSING


def test_key_of_a_user_is_valid_until_deactivated(cloud: LocalCloud, aws: Callable) -> None:
    # given a user's key
    name = f"user-{uuid.uuid4().hex[:8]}"
    aws("iam").create_user(UserName=name)
    key = aws("iam").create_access_key(UserName=name)["AccessKey"]
    theirs = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    assert client(cloud, "sts", **theirs).get_caller_identity()["Arn"].endswith(f":user/{name}")
    # when the key is deactivated; then calls with it are refused
    aws("iam").update_access_key(UserName=name, AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert refusal(lambda: client(cloud, "sqs", **theirs).list_queues()) == "InvalidClientTokenId"


@pytest.mark.parametrize("token", ["", "another"])
def test_session_is_identified_by_its_token(cloud: LocalCloud, aws: Callable, token: str) -> None:
    session = aws("sts").get_session_token()["Credentials"]
    given = {
        "aws_access_key_id": session["AccessKeyId"],
        "aws_secret_access_key": session["SecretAccessKey"],
    }
    client(cloud, "sqs", **given, aws_session_token=session["SessionToken"]).list_queues()
    assert (
        refusal(lambda: client(cloud, "sqs", **given, aws_session_token=token).list_queues())
        == "InvalidClientTokenId"
    )


def test_expired_session_is_refused(in_the_clouds_environment: Callable) -> None:
    # given an expired session
    program = """
import time
from ministack.services import sts
from local.emulator import callers, signatures
sts._sessions["ASIAGONE"] = {
    "Arn": "arn:aws:sts::000000000000:assumed-role/role/session", "SecretAccessKey": "secret",
    "SessionToken": "token", "Expiration": time.time() - 1,
}
claim = signatures.Claim("ASIAGONE", "20260101", "eu-west-1", "sqs", (), "", "", "token")
try:
    print(callers.secret_of(claim))
except signatures.SignatureError as error:
    print(error.code)
"""
    assert in_the_clouds_environment(program).stdout.split() == ["ExpiredTokenException"]


def test_function_acts_with_a_session_of_its_role(cloud: LocalCloud, aws: Callable, function: str) -> None:
    assert f"assumed-role/{function}/" in invoke(aws, function)
    # given the function's session; when it is used with another secret; then it is refused
    known = invoke(aws, function, keys=True)
    session = {
        "aws_access_key_id": known["ACCESS_KEY_ID"],
        "aws_secret_access_key": known["SECRET_ACCESS_KEY"],
        "aws_session_token": known["SESSION_TOKEN"],
    }
    client(cloud, "sqs", **session).list_queues()
    session["aws_secret_access_key"] = "another"
    assert refusal(lambda: client(cloud, "sqs", **session).list_queues()) in WRONG


# The cloud's own addresses ----------------------------------------------------------------------------


def test_control_addresses_need_a_signature_with_the_clouds_key(
    cloud: LocalCloud, aws: Callable, function: str
) -> None:
    # given a function's session, another cloud's key, and a signature by the cloud's own key for another body
    known = invoke(aws, function, keys=True)
    url = f"{cloud.endpoint_url}/_groundplan/iam"
    body = b'{"enforce": true}'
    strangers = [keys.Key(known["ACCESS_KEY_ID"], known["SECRET_ACCESS_KEY"]), keys.new()]
    headers = [{}, *(dict(keys.signed(key, "POST", url, body)) for key in strangers)]
    headers.append(dict(keys.signed(cloud.key, "POST", url, b"{}")))  # a signature for another body
    headers.append({"Authorization": f"Bearer {cloud.key.secret_access_key}"})
    # then a request with any of these can neither change a setting nor read the status
    for given in headers:
        assert fetch(url, "POST", body, **given)[0] == 403
        assert fetch(f"{cloud.endpoint_url}/_groundplan/status", **given)[0] == 403
    assert not cloud.status()["iam_enforced"]
    # and a user who can read the key in the cloud's home can change the setting
    assert (
        fetch(
            url, "POST", b'{"enforce": false}', **keys.signed(cloud.key, "POST", url, b'{"enforce": false}')
        )[0]
        == 200
    )


@pytest.mark.parametrize(
    "path",
    ["/_ministack/reset", "/_ministack/config", "/_ministack/health", "/health", "/_localstack/health"],
)
def test_internal_addresses_of_the_emulator_are_refused(cloud: LocalCloud, path: str) -> None:
    for host in (urlsplit(cloud.endpoint_url).netloc, f"abcdef01.execute-api.localhost:{cloud.port}"):
        for method in ("GET", "POST", "PUT"):
            assert fetch(f"http://{host}{path}", method, b"" if method != "GET" else None)[0] == 403


def test_command_line_enforces_iam(cloud: LocalCloud) -> None:
    def local(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "local", "--home", str(cloud.home), *arguments]
        return subprocess.run(program, capture_output=True, text=True, check=False)

    assert "is enforced" in local("iam", "on").stdout
    assert cloud.status()["iam_enforced"]
    assert "not enforced" in local("iam", "off").stdout
    assert not cloud.status()["iam_enforced"]
    for mistaken in (["iam"], ["iam", "maybe"], ["status", "on"]):
        assert local(*mistaken).returncode == 2


# Presigned addresses and forms ------------------------------------------------------------------------


def test_changed_or_expired_presigned_address_is_refused(aws: Callable, bucket: str) -> None:
    # given a valid presigned address, and IAM that is not enforced
    place = {"Bucket": bucket, "Key": "a b/ü.txt"}
    url = aws("s3").generate_presigned_url("get_object", Params=place, ExpiresIn=600)
    assert fetch(url)[:2] == (200, b"hidden")
    # then the address is refused for another object, with another signature or expiry, and after its expiry
    signature = url.rpartition("X-Amz-Signature=")[2][:64]
    for other in (
        url.replace("%20b", "%20c"),
        url.replace(signature, signature[::-1]),
        url.replace("X-Amz-Expires=600", "X-Amz-Expires=6000"),
        url.replace("X-Amz-Expires=600&", ""),
    ):
        status, said, _ = fetch(other)
        assert status in (400, 403), other
        assert b"hidden" not in said
    brief = aws("s3").generate_presigned_url("get_object", Params=place, ExpiresIn=1)
    until(
        lambda: fetch(brief)[0] == 403 and b"Request has expired" in fetch(brief)[1],
        "the expiry of the presigned address",
    )


def test_unsigned_request_gets_no_object(cloud: LocalCloud, bucket: str) -> None:
    for url in (
        f"{cloud.endpoint_url}/{bucket}/a%20b/%C3%BC.txt",
        f"http://{bucket}.s3.localhost:{cloud.port}/a%20b/%C3%BC.txt",
        f"{cloud.endpoint_url}/{bucket}?list-type=2",
        f"{cloud.endpoint_url}/",
    ):
        assert fetch(url)[0] == 403
    assert fetch(f"{cloud.endpoint_url}/a-bucket-by-nobody", "PUT", b"")[0] == 403
    assert fetch(f"{cloud.endpoint_url}/{bucket}/new", "PUT", b"text")[0] == 403


def test_object_that_a_policy_makes_public_needs_no_signature(
    cloud: LocalCloud, aws: Callable, bucket: str
) -> None:
    aws("s3").put_object(Bucket=bucket, Key="public/page", Body=b"open")
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/public/*",
    }
    aws("s3").delete_public_access_block(Bucket=bucket)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws("s3").put_bucket_policy(Bucket=bucket, Policy=policy)
    assert fetch(f"{cloud.endpoint_url}/{bucket}/public/page")[:2] == (200, b"open")
    assert fetch(f"{cloud.endpoint_url}/{bucket}/public/page", "DELETE")[0] == 403
    assert fetch(f"{cloud.endpoint_url}/{bucket}/a%20b/%C3%BC.txt")[0] == 403
    # and a public object allows neither other operations nor a copy of a private object
    hoisted = f"{cloud.endpoint_url}/{bucket}/public/page?X-Amz-Copy-Source=/{bucket}/a%20b/%C3%BC.txt"
    assert fetch(hoisted)[0] == 403
    action = b"Action=GetCallerIdentity&Version=2011-06-15"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert fetch(f"{cloud.endpoint_url}/{bucket}/public/page", "POST", action, **form)[0] == 403


def upload(fields: dict[str, str], content: bytes) -> tuple[bytes, dict[str, str]]:
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = "".join([*parts, head]).encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def test_policy_of_a_form_must_be_signed(aws: Callable, bucket: str) -> None:
    # given a form for one object, and IAM that is not enforced
    post = aws("s3").generate_presigned_post(bucket, "uploads/one", ExpiresIn=600)
    other = aws("s3").generate_presigned_post(bucket, "uploads/two", ExpiresIn=600)["fields"]

    def send(fields: dict[str, str]) -> int:
        body, headers = upload(fields, b"content")
        return fetch(post["url"], "POST", body, **headers)[0]

    assert send(post["fields"]) == 204
    # then a form with another form's policy, and a form without a policy, are refused
    forged = post["fields"] | {"policy": other["policy"], "key": "uploads/two"}
    unsigned = {"key": "uploads/two"}
    made_up = post["fields"] | {
        "x-amz-credential": f"test/{post['fields']['x-amz-credential'].partition('/')[2]}"
    }
    for fields in (forged, unsigned, made_up, {**unsigned, "policy": other["policy"]}):
        assert send(fields) == 403
    assert refusal(lambda: aws("s3").head_object(Bucket=bucket, Key="uploads/two")) == "404"


def test_form_signature_is_refused_outside_its_bucket(
    cloud: LocalCloud, aws: Callable, bucket: str, function: str
) -> None:
    # given a form that is signed for an upload; when it is sent to another service; then it is refused
    post = aws("s3").generate_presigned_post(bucket, "uploads/one", ExpiresIn=600)
    body, headers = upload(post["fields"], b"content")
    for path in (f"/2015-03-31/functions/{function}/invocations", "/_ministack/reset", f"/{bucket}/key"):
        assert fetch(f"{cloud.endpoint_url}{path}", "POST", body, **headers)[0] in (403, 404, 405)
    assert invoke(aws, function)


def test_code_of_a_function_has_a_presigned_address(cloud: LocalCloud, aws: Callable, function: str) -> None:
    url = aws("lambda").get_function(FunctionName=function)["Code"]["Location"]
    status, archive, _ = fetch(url)
    assert status == 200
    assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == ["index.py"]
    assert fetch(url.partition("?")[0])[0] == 403
    assert fetch(url.replace(function, f"{function}x"))[0] == 403


# Requests that need no signature ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(cloud: LocalCloud, aws: Callable, function: str) -> Iterator[str]:
    """An HTTP API with a public route, and a route with IAM authorization."""
    made = aws("apigatewayv2").create_api(Name="credentials", ProtocolType="HTTP")
    identifier = made["ApiId"]
    arn = aws("lambda").get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    integration = aws("apigatewayv2").create_integration(
        ApiId=identifier, IntegrationType="AWS_PROXY", IntegrationUri=arn, PayloadFormatVersion="2.0"
    )["IntegrationId"]
    for key, kind in (("GET /open", "NONE"), ("GET /closed", "AWS_IAM")):
        aws("apigatewayv2").create_route(
            ApiId=identifier, RouteKey=key, Target=f"integrations/{integration}", AuthorizationType=kind
        )
    aws("apigatewayv2").create_stage(ApiId=identifier, StageName="$default", AutoDeploy=True)
    yield f"http://{identifier}.execute-api.localhost:{cloud.port}"
    aws("apigatewayv2").delete_api(ApiId=identifier)


def test_route_without_an_authorizer_needs_no_signature(api: str) -> None:
    assert fetch(f"{api}/open")[0] == 200
    assert fetch(f"{api}/open", Authorization="Bearer a-token")[0] == 200


def test_route_with_iam_authorization_needs_a_signature(cloud: LocalCloud, api: str) -> None:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    assert fetch(f"{api}/closed")[0] == 403
    assert fetch(f"{api}/closed", Authorization="Bearer a-token")[0] == 403
    request = AWSRequest("GET", f"{api}/closed")
    key = Credentials(cloud.key.access_key_id, cloud.key.secret_access_key)
    SigV4Auth(key, "execute-api", cloud.region).add_auth(request)
    signed = {name: str(value) for name, value in request.headers.items()}
    assert fetch(f"{api}/closed", "GET", None, **signed)[0] == 200


def handshake(port: int, host: str, path: str) -> int:
    """Return the status of the response to a WebSocket handshake."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Host": f"{host}:{port}", "Connection": "Upgrade", "Upgrade": "websocket"}
    headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(("authorization", "status"), [("NONE", 101), ("AWS_IAM", 403)])
def test_websocket_opens_according_to_its_routes_authorization(
    cloud: LocalCloud, aws: Callable, authorization: str, status: int
) -> None:
    made = aws("apigatewayv2").create_api(
        Name=f"sockets-{authorization}",
        ProtocolType="WEBSOCKET",
        RouteSelectionExpression="$request.body.action",
    )["ApiId"]
    aws("apigatewayv2").create_route(ApiId=made, RouteKey="$connect", AuthorizationType=authorization)
    aws("apigatewayv2").create_stage(ApiId=made, StageName="live")
    assert handshake(cloud.port, f"{made}.execute-api.localhost", "/live") == status
    assert handshake(cloud.port, "localhost", "/mqtt") == 403


def test_public_calls_of_a_user_pool_need_no_signature(cloud: LocalCloud, aws: Callable) -> None:
    pool = aws("cognito-idp").create_user_pool(PoolName="credentials")["UserPool"]["Id"]
    app = aws("cognito-idp").create_user_pool_client(
        UserPoolId=pool, ClientName="page", ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"]
    )["UserPoolClient"]["ClientId"]
    page = boto3.client(
        "cognito-idp",
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        config=Config(signature_version=UNSIGNED),
    )
    page.sign_up(ClientId=app, Username="somebody", Password="Correct-horse-1")
    assert refusal(lambda: page.admin_get_user(UserPoolId=pool, Username="somebody")) in MISSING
    assert fetch(f"{cloud.endpoint_url}/{pool}/.well-known/jwks.json")[0] == 200


@pytest.mark.parametrize("operation", ["assume_role_with_web_identity", "assume_role_with_saml"])
def test_unverified_token_gets_no_credentials(cloud: LocalCloud, operation: str) -> None:
    sts = boto3.client(
        "sts",
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        config=Config(signature_version=UNSIGNED),
    )
    role = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/any"}
    given = {
        "assume_role_with_web_identity": {"RoleSessionName": "me", "WebIdentityToken": "made up"},
        "assume_role_with_saml": {
            "PrincipalArn": f"arn:aws:iam::{ACCOUNT}:saml-provider/p",
            "SAMLAssertion": "YQ==",
        },
    }[operation]
    with pytest.raises(ClientError, match="does not verify"):
        getattr(sts, operation)(**role, **given)


@pytest.mark.parametrize(
    ("host", "method", "path", "headers"),
    [
        ("127.0.0.1", "POST", "/", {"X-Amz-Target": "secretsmanager.ListSecrets"}),
        ("127.0.0.1", "OPTIONS", "/", {"X-Amz-Target": "secretsmanager.ListSecrets"}),
        ("none.cloudfront.localhost", "OPTIONS", "/", {"X-Amz-Target": "secretsmanager.ListSecrets"}),
        ("none.cloudfront.localhost", "POST", "/", {"X-Amz-Target": "secretsmanager.ListSecrets"}),
        ("none.alb.localhost", "POST", "/", {"X-Amz-Target": "secretsmanager.ListSecrets"}),
        (
            "{bucket}.s3.localhost",
            "GET",
            "/a%20b/%C3%BC.txt",
            {"X-Amz-Target": "AWSCognitoIdentityProviderService.SignUp"},
        ),
        ("abcdef01.execute-api.localhost", "GET", "/v20180820/accesspoint", {}),
        ("abcdef01.execute-api.localhost", "GET", "/iceberg/v1/config", {}),
        ("abcdef01.execute-api.localhost", "GET", "/v2/email/identities", {}),
        ("abcdef01.execute-api.localhost", "POST", "/Execute", {}),
        ("127.0.0.1", "GET", "/v2/_catalog", {}),
        ("127.0.0.1", "GET", "/latest/meta-data/", {}),
        ("127.0.0.1", "GET", "/?Action=ListUsers", {}),
        ("127.0.0.1", "GET", "/login/oauth2/token", {}),
        (
            "127.0.0.1",
            "POST",
            "/saml2/idpresponse",
            {"X-Amz-Target": "AWSCognitoIdentityProviderService.InitiateAuth"},
        ),
    ],
)
def test_unsigned_request_is_refused_by_every_route(
    cloud: LocalCloud, bucket: str, host: str, method: str, path: str, headers: dict[str, str]
) -> None:
    url = f"http://{host.format(bucket=bucket)}:{cloud.port}{path}"
    status, said, _ = fetch(url, method, b"{}" if method == "POST" else None, **headers)
    # the response to a preflight is empty; other requests are refused
    assert status in (400, 401, 403, 404) or (method == "OPTIONS" and said == b""), (status, said)
    assert b"hidden" not in said


# The file ---------------------------------------------------------------------------------------------


def test_key_survives_a_restart_and_other_keys_are_refused(tmp_path: Path, cloud: LocalCloud) -> None:
    # given a separate cloud with a key and a function
    with LocalCloud(tmp_path / "older") as older:
        key = older.key
        file = older.home / keys.FILE
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        aws = lambda service: client(older, service)  # noqa: E731
        name = make_function(aws, "kept")
        assert refusal(lambda: client(older, "sts", **own_keys(cloud)).get_caller_identity()) in UNKNOWN
        older.stop()
        # when the cloud starts again; then the key is the same
        older.start()
        assert older.key == key
        older.stop()
        # when the file with the key is missing; then there is a new key, the old one is unknown, and
        # functions still work
        file.unlink()
        with pytest.raises(CloudError, match="started"):
            older.env()
        older.start()
        assert older.key != key
        before = {"aws_access_key_id": key.access_key_id, "aws_secret_access_key": key.secret_access_key}
        assert refusal(lambda: client(older, "sts", **before).get_caller_identity()) in UNKNOWN
        assert "assumed-role/kept/" in invoke(aws, name)
