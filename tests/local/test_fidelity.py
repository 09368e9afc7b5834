"""The claims of `local/fidelity.toml`: which actions the local cloud refuses by name, and which effects of
AWS it lacks."""

from __future__ import annotations

import functools
import io
import json
import time
import urllib.request
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session
from botocore.session import Session

from documentation import fidelity
from local.cloud import LocalCloud
from tests.support.deployments import ACCOUNT, REGION, Machine, Stack, assumed, names, policy, role
from tests.support.waiting import until

ENTRIES = fidelity.read()
REFUSED = sorted(name for name, entry in ENTRIES.items() if entry.kind == "refused")
UNBUILT = fidelity.unbuilt(ENTRIES)
FUNCTION = """
def handler(event, context):
    print("invoked")
    return {"statusCode": 200, "body": str(len(bytearray(256 << 20)))}
"""
"""A function that uses 256 MiB of memory."""


models = functools.cache(Session().get_service_model)
http = URLLib3Session()


def sent(cloud: LocalCloud, action: str) -> tuple[int, str]:
    """Send a signed request that calls an action without parameters; return its status and body.

    The action may be one that only IAM has, and that SDKs therefore cannot call.
    """
    service, _, name = action.partition(":")
    model = models(service)
    prefix = model.metadata.get("targetPrefix")
    path = "/" if prefix else model.operation_model(name).http["requestUri"]
    headers = {"Content-Type": "application/x-amz-json-1.1"} | (
        {"X-Amz-Target": f"{prefix}.{name}"} if prefix else {}
    )
    request = AWSRequest("POST", cloud.endpoint_url + path, headers, b"{}")
    credentials = Credentials(cloud.key.access_key_id, cloud.key.secret_access_key)
    SigV4Auth(credentials, service, cloud.region).add_auth(request)
    response = http.send(request.prepare())
    return response.status_code, response.text


# Refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", REFUSED)
def test_refused_call_fails_with_its_name(cloud: LocalCloud, action: str) -> None:
    status, body = sent(cloud, action)
    service, _, name = action.partition(":")
    assert 400 <= status < 600
    assert name in body or f"Unsupported service: {service}" in body


def test_every_unbuilt_operation_of_sagemaker_is_refused(cloud: LocalCloud) -> None:
    assert len(UNBUILT) > 200
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: sent(cloud, f"sagemaker:{name}"), UNBUILT))
    for name, (status, body) in zip(UNBUILT, answers, strict=True):
        said = json.loads(body)
        assert (status, said["__type"]) == (501, "NotImplementedByLocalCloud")
        assert said["message"] == f"sagemaker:{name} is not implemented in the local cloud"


# Effects --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("enforced")
def test_policies_of_topics_and_queues_deny_requests(aws: Callable) -> None:
    # given a topic and a queue with policies that deny what the policy of a user allows
    def denying(action: str, attribute: str) -> dict[str, Any]:
        statement: dict[str, Any] = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": action}
        statement["Resource"] = {"Fn::GetAtt": attribute.split(".")}
        return {"PolicyDocument": {"Version": "2012-10-17", "Statement": [statement]}}

    topic = denying("sns:Publish", "Topic.TopicArn") | {"Topics": [{"Ref": "Topic"}]}
    queue = denying("sqs:SendMessage", "Queue.Arn") | {"Queues": [{"Ref": "Queue"}]}
    stack = Stack(aws)
    made = stack.create(
        {
            "Topic": {"Type": "AWS::SNS::Topic"},
            "TopicPolicy": {"Type": "AWS::SNS::TopicPolicy", "Properties": topic},
            "Queue": {"Type": "AWS::SQS::Queue"},
            "QueuePolicy": {"Type": "AWS::SQS::QueuePolicy", "Properties": queue},
        },
        {"Topic": {"Ref": "Topic"}, "Queue": {"Ref": "Queue"}},
    )
    assert made == "CREATE_COMPLETE", stack.reasons
    # when the user publishes to the topic and sends to the queue, then both are denied
    user = assumed(aws, ("sns:*", "*"), ("sqs:*", "*"))
    with pytest.raises(ClientError, match="AuthorizationError"):
        aws("sns", **user).publish(TopicArn=stack.outputs["Topic"], Message="x")
    with pytest.raises(ClientError, match="AccessDenied"):
        aws("sqs", **user).send_message(QueueUrl=stack.outputs["Queue"], MessageBody="x")
    # and what the policies do not deny is allowed
    assert aws("sqs", **user).receive_message(QueueUrl=stack.outputs["Queue"]).get("Messages", []) == []


@pytest.mark.usefixtures("enforced")
def test_user_of_a_stack_reads_its_parameter(aws: Callable) -> None:
    # given a stack with a parameter and a user who has a grant on it, and a role without this grant
    name, stack = f"/{next(names)}", Stack(aws)
    arn = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}"
    grant = json.loads(policy({"Effect": "Allow", "Action": "ssm:GetParameter", "Resource": arn}))
    user = {"Policies": [{"PolicyName": "read", "PolicyDocument": grant}]}
    parameter = {"Name": name, "Type": "String", "Value": "on"}
    made = stack.create(
        {
            "Parameter": {"Type": "AWS::SSM::Parameter", "Properties": parameter},
            "User": {"Type": "AWS::IAM::User", "Properties": user},
        },
        {"User": {"Ref": "User"}},
    )
    assert made == "CREATE_COMPLETE", stack.reasons
    key = aws("iam").create_access_key(UserName=stack.outputs["User"])["AccessKey"]
    keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    reader, other = aws("ssm", **keys), aws("ssm", **assumed(aws, ("sqs:*", "*")))
    # when both read the parameter, then only the user gets the value
    assert reader.get_parameter(Name=name)["Parameter"]["Value"] == "on"
    with pytest.raises(ClientError, match="AccessDenied"):
        other.get_parameter(Name=name)


def test_aborted_upload_leaves_no_parts(cloud: LocalCloud, aws: Callable) -> None:
    s3, bucket = aws("s3"), next(names)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    upload = {"Bucket": bucket, "Key": "k"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    s3.upload_part(**upload, PartNumber=1, Body=b"part")
    s3.abort_multipart_upload(**upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


# Missing effects: if a test fails because the local cloud now has the effect, correct fidelity.toml ---------


@pytest.fixture
def function(aws: Callable) -> str:
    """ARN of a function with 128 MB of memory, whose role may only use CloudWatch Logs."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("index.py", FUNCTION)
    return aws("lambda").create_function(
        FunctionName=next(names),
        Runtime="python3.11",
        Handler="index.handler",
        Role=role(aws, "lambda.amazonaws.com", ("logs:*", "*")),
        Code={"ZipFile": file.getvalue()},
        MemorySize=128,
    )["FunctionArn"]


def invoked(aws: Callable, function: str) -> bool:
    """Return whether a function has a log group, which means that it was invoked."""
    log = f"/aws/lambda/{function.rpartition(':')[2]}"
    return bool(aws("logs").describe_log_groups(logGroupNamePrefix=log)["logGroups"])


@pytest.fixture
def group(aws: Callable) -> str:
    """Name of an empty log group."""
    name = next(names)
    aws("logs").create_log_group(logGroupName=name)
    return name


@pytest.mark.usefixtures("enforced")
def test_event_source_mapping_needs_no_permission_on_the_stream(aws: Callable, function: str) -> None:
    # given a table with a stream, and a mapping to a function whose role cannot read the stream
    dynamodb, name = aws("dynamodb"), next(names)
    stream = dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )["TableDescription"]["LatestStreamArn"]
    mapping = aws("lambda").create_event_source_mapping(
        EventSourceArn=stream, FunctionName=function, StartingPosition="TRIM_HORIZON"
    )["UUID"]
    # when an item is written, then the function is invoked
    dynamodb.put_item(TableName=name, Item={"id": {"S": "1"}})
    until(lambda: invoked(aws, function), "the invocation")
    aws("lambda").delete_event_source_mapping(UUID=mapping)


def test_function_may_use_more_memory_than_it_has(aws: Callable, function: str) -> None:
    result = json.loads(aws("lambda").invoke(FunctionName=function)["Payload"].read())
    assert int(result["body"]) == 256 << 20


def test_stage_neither_throttles_nor_logs(
    cloud: LocalCloud, aws: Callable, function: str, group: str
) -> None:
    # given a stage that allows one request per second, with access logs
    gateway = aws("apigatewayv2")
    api = gateway.create_api(Name=next(names), ProtocolType="HTTP")["ApiId"]
    integration = gateway.create_integration(
        ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=function, PayloadFormatVersion="2.0"
    )["IntegrationId"]
    gateway.create_route(ApiId=api, RouteKey="GET /x", Target=f"integrations/{integration}")
    limits = {"ThrottlingRateLimit": 1.0, "ThrottlingBurstLimit": 1}
    logs = {"DestinationArn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}", "Format": "$context.path"}
    gateway.create_stage(
        ApiId=api, StageName="$default", AutoDeploy=True, DefaultRouteSettings=limits, AccessLogSettings=logs
    )
    stage = gateway.get_stage(ApiId=api, StageName="$default")
    assert (stage["DefaultRouteSettings"], stage["AccessLogSettings"]) == (limits, logs)
    # when four requests are sent at once, then all are answered, and none is logged
    for _ in range(4):
        with urllib.request.urlopen(f"{cloud.endpoint_url}/_aws/execute-api/{api}/$default/x") as answer:  # noqa: S310
            assert answer.status == 200
    assert aws("logs").describe_log_streams(logGroupName=group)["logStreams"] == []


def test_state_machine_writes_no_logs(aws: Callable, group: str) -> None:
    machine = Machine(aws, {"Type": "Pass"})
    destination = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:*"
    logging = {"level": "ALL", "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": destination}}]}
    aws("stepfunctions").update_state_machine(stateMachineArn=machine.arn, loggingConfiguration=logging)
    assert machine.run()["status"] == "SUCCEEDED"
    assert aws("logs").describe_log_streams(logGroupName=group)["logStreams"] == []


def test_object_is_readable_after_its_key_is_disabled(cloud: LocalCloud, aws: Callable) -> None:
    # given a bucket that encrypts with a key
    kms, s3, bucket = aws("kms"), aws("s3"), next(names)
    key = kms.create_key()["KeyMetadata"]["Arn"]
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"body")["SSEKMSKeyId"] == key
    # when the key is disabled, then it decrypts nothing, but the object is still read
    secret = kms.encrypt(KeyId=key, Plaintext=b"text")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=secret)["Plaintext"] == b"text"
    assert "Plaintext" not in kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256")
    plain = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    assert kms.decrypt(CiphertextBlob=plain["CiphertextBlob"])["Plaintext"] == plain["Plaintext"]
    kms.disable_key(KeyId=key)
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Disabled"
    with pytest.raises(kms.exceptions.DisabledException):
        kms.decrypt(CiphertextBlob=secret)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"


def test_log_events_outlive_the_retention_period(aws: Callable, group: str) -> None:
    # given an event that is older than the group's retention period
    logs, old = aws("logs"), int((time.time() - 3 * 86400) * 1000)
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    logs.put_log_events(
        logGroupName=group, logStreamName="s", logEvents=[{"timestamp": old, "message": "old"}]
    )
    logs.put_retention_policy(logGroupName=group, retentionInDays=1)
    # then the event can still be read
    (event,) = logs.get_log_events(logGroupName=group, logStreamName="s")["events"]
    assert event["message"] == "old"


def test_email_subscription_needs_no_confirmation(aws: Callable) -> None:
    # given a topic with two subscriptions, one created by a stack and one by an API call
    sns, stack = aws("sns"), Stack(aws)
    address = {"TopicArn": {"Ref": "Topic"}, "Protocol": "email", "Endpoint": "one@example.com"}
    made = stack.create(
        {
            "Topic": {"Type": "AWS::SNS::Topic"},
            "Subscription": {"Type": "AWS::SNS::Subscription", "Properties": address},
        },
        {"Topic": {"Ref": "Topic"}},
    )
    assert made == "CREATE_COMPLETE", stack.reasons
    topic = stack.outputs["Topic"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="two@example.com")
    # then both are confirmed at once, because no email is sent
    found = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert {each["Endpoint"] for each in found} == {"one@example.com", "two@example.com"}
    assert "PendingConfirmation" not in {each["SubscriptionArn"] for each in found}


def test_dashboard_is_returned_as_it_was_stored(aws: Callable) -> None:
    body = json.dumps({"widgets": []})
    aws("cloudwatch").put_dashboard(DashboardName="d", DashboardBody=body)
    assert aws("cloudwatch").get_dashboard(DashboardName="d")["DashboardBody"] == body


@pytest.mark.usefixtures("enforced")
def test_grants_of_keys_and_policies_of_logs_allow_nothing(aws: Callable, group: str) -> None:
    # given a user who may decrypt only by a grant of the key, and write logs only by a resource policy
    kms, logs, name = aws("kms"), aws("logs"), next(names)
    key = kms.create_key()["KeyMetadata"]["Arn"]
    secret = kms.encrypt(KeyId=key, Plaintext=b"text")["CiphertextBlob"]
    user = assumed(aws, ("sqs:*", "*"))
    arn = aws("sts", **user).get_caller_identity()["Arn"]
    kms.create_grant(KeyId=key, GranteePrincipal=arn, Operations=["Decrypt"])
    statement = {"Effect": "Allow", "Principal": "*", "Action": "logs:CreateLogStream", "Resource": "*"}
    logs.put_resource_policy(policyName=name, policyDocument=policy(statement))
    assert name in [each["policyName"] for each in logs.describe_resource_policies()["resourcePolicies"]]
    # when the user decrypts and writes logs, then both are denied
    with pytest.raises(ClientError, match="AccessDenied"):
        aws("kms", **user).decrypt(CiphertextBlob=secret)
    with pytest.raises(ClientError, match="AccessDenied"):
        aws("logs", **user).create_log_stream(logGroupName=group, logStreamName="s")
    logs.delete_resource_policy(policyName=name)
    logs.delete_log_group(logGroupName=group)
