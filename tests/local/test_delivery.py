"""Delivery of stream records, events and object notifications to functions: retries and dead letters."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local import faults
from local.cloud import LocalCloud
from tests.support.clouds import client
from tests.support.waiting import until

FUNCTION = """
import json, os, boto3
sqs, dynamodb = boto3.client("sqs"), boto3.client("dynamodb")
def keys(event):
    return [each["dynamodb"]["Keys"]["id"]["S"] for each in event["Records"]]
def tell(what):
    sqs.send_message(QueueUrl=os.environ["SEEN"], MessageBody=json.dumps(what))
def stream(event, context):
    tell(keys(event))
    if any("poison" in key for key in keys(event)):
        raise ValueError("poisoned")
def partial(event, context):
    tell(keys(event))
    failed = [each["dynamodb"]["SequenceNumber"] for each, key in zip(event["Records"], keys(event))
              if "poison" in key]
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
def queue(event, context):
    (message,) = event["Records"]
    tell([message["body"]])
    if message["attributes"]["ApproximateReceiveCount"] == "1":
        name = {"reported": message["messageId"], "invalid": None}[message["body"]]
        return {"batchItemFailures": [{"itemIdentifier": name}]}
def fails(event, context):
    tell(["failed", event.get("detail") or [r["s3"]["object"]["key"] for r in event["Records"]]])
    raise ValueError("never")
def steps(event, context):
    for number in range(3):
        dynamodb.put_item(TableName=os.environ["DONE"], Item={"id": {"S": f"{event['run']}-{number}"}})
    return "done"
"""


def template() -> dict[str, Any]:
    def get(name: str, attribute: str) -> dict[str, list[str]]:
        return {"Fn::GetAtt": [name, attribute]}

    def ref(name: str) -> dict[str, str]:
        return {"Ref": name}

    assume = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    allow = {"Effect": "Allow", "Action": ["sqs:*", "dynamodb:*"], "Resource": "*"}
    resources: dict[str, tuple[str, dict[str, Any]]] = {
        "Seen": ("AWS::SQS::Queue", {}),
        "Lost": ("AWS::SQS::Queue", {}),
        "Letters": ("AWS::SQS::Queue", {}),
        "Told": ("AWS::SQS::Queue", {}),
        "RuleLetters": ("AWS::SQS::Queue", {}),
        "Done": (
            "AWS::DynamoDB::Table",
            {
                "BillingMode": "PAY_PER_REQUEST",
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            },
        ),
        "Role": (
            "AWS::IAM::Role",
            {
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [assume]},
                "Policies": [
                    {
                        "PolicyName": "all",
                        "PolicyDocument": {"Version": "2012-10-17", "Statement": [allow]},
                    }
                ],
            },
        ),
        "Bucket": (
            "AWS::S3::Bucket",
            {
                "NotificationConfiguration": {
                    "EventBridgeConfiguration": {"EventBridgeEnabled": True},
                    "LambdaConfigurations": [
                        {
                            "Event": "s3:ObjectCreated:*",
                            "Function": get("Fails", "Arn"),
                            "Filter": {"S3Key": {"Rules": [{"Name": "suffix", "Value": "/result.json"}]}},
                        }
                    ],
                }
            },
        ),
        "ObjectRule": (
            "AWS::Events::Rule",
            {
                "EventPattern": {
                    "source": ["aws.s3"],
                    "detail": {
                        "bucket": {"name": [ref("Bucket")]},
                        "object": {"key": [{"prefix": "told/"}]},
                    },
                },
                "Targets": [{"Id": "told", "Arn": get("Told", "Arn")}],
            },
        ),
        "Rule": (
            "AWS::Events::Rule",
            {
                "EventPattern": {"source": ["tests"]},
                "Targets": [
                    {"Id": "fails", "Arn": get("Fails", "Arn")},
                    {
                        "Id": "gone",
                        "Arn": {
                            "Fn::Sub": "arn:aws:lambda:${AWS::Region}:${AWS::AccountId}:function:not-there"
                        },
                        "DeadLetterConfig": {"Arn": get("RuleLetters", "Arn")},
                    },
                ],
            },
        ),
    }
    for name in ("Stream", "Partial", "Fails", "Steps", "Queue"):
        resources[name] = (
            "AWS::Lambda::Function",
            {
                "Runtime": "python3.11",
                "Handler": f"index.{name.lower()}",
                "Role": get("Role", "Arn"),
                "Code": {"ZipFile": FUNCTION},
                "Environment": {"Variables": {"SEEN": ref("Seen"), "DONE": ref("Done")}},
            },
        )
    resources["Heard"] = ("AWS::SQS::Queue", {})
    resources["Queue"][1]["Environment"] = {"Variables": {"SEEN": ref("Heard")}}
    resources["Messages"] = ("AWS::SQS::Queue", {"VisibilityTimeout": 3})
    resources["MessagesMapping"] = (
        "AWS::Lambda::EventSourceMapping",
        {
            "EventSourceArn": get("Messages", "Arn"),
            "FunctionName": get("Queue", "Arn"),
            "BatchSize": 1,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        },
    )
    resources["Fails"][1]["DeadLetterConfig"] = {"TargetArn": get("Letters", "Arn")}
    resources["Fails"][1]["ReservedConcurrentExecutions"] = 7
    tables = {
        "Bisected": ("Stream", {"BisectBatchOnFunctionError": True, "MaximumRetryAttempts": 1}),
        "Bounded": ("Stream", {"MaximumRetryAttempts": 2}),
        "Reported": (
            "Partial",
            {"MaximumRetryAttempts": 1, "FunctionResponseTypes": ["ReportBatchItemFailures"]},
        ),
        "Filtered": (
            "Stream",
            {
                "FilterCriteria": {
                    "Filters": [
                        {
                            "Pattern": json.dumps(
                                {
                                    "eventName": ["MODIFY"],
                                    "dynamodb": {"NewImage": {"status": {"S": ["READY"]}}},
                                }
                            )
                        }
                    ]
                }
            },
        ),
    }
    for name, (function, more) in tables.items():
        resources[name] = (
            "AWS::DynamoDB::Table",
            {
                "BillingMode": "PAY_PER_REQUEST",
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"},
            },
        )
        resources[f"{name}Mapping"] = (
            "AWS::Lambda::EventSourceMapping",
            {
                "EventSourceArn": get(name, "StreamArn"),
                "FunctionName": get(function, "Arn"),
                "StartingPosition": "TRIM_HORIZON",
                "BatchSize": 10,
                "MaximumBatchingWindowInSeconds": 1,
                "DestinationConfig": {"OnFailure": {"Destination": get("Lost", "Arn")}},
            }
            | more,
        )
    names = ("Seen", "Lost", "Told", "Letters", "RuleLetters", "Done", "Bucket", "Fails", "Steps", *tables)
    return {
        "Resources": {name: {"Type": kind, "Properties": props} for name, (kind, props) in resources.items()},
        "Outputs": {name: {"Value": ref(name)} for name in (*names, "Messages", "Heard")},
    }


class Stack:
    """The deployed template. `of[NAME]` is the physical id of the resource NAME."""

    def __init__(self, cloud: LocalCloud):
        self.cloud, name = cloud, f"delivery-{uuid.uuid4().hex[:8]}"
        formation = self.client("cloudformation")
        text = json.dumps(template())
        formation.create_stack(StackName=name, TemplateBody=text, Capabilities=["CAPABILITY_IAM"])

        def made() -> Any:
            (found,) = formation.describe_stacks(StackName=name)["Stacks"]
            if found["StackStatus"].endswith("_IN_PROGRESS"):
                return None
            assert found["StackStatus"] == "CREATE_COMPLETE", formation.describe_stack_events(StackName=name)
            return {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}

        self.of: dict[str, str] = until(made, "the creation of the stack")

    def client(self, service: str) -> Any:
        return client(self.cloud, service)

    def put(self, table: str, *keys: str, **attributes: str) -> None:
        """Write items with the same attributes, one after the other."""
        dynamodb = self.client("dynamodb")
        for key in keys:
            item = {"id": {"S": key}} | {name: {"S": value} for name, value in attributes.items()}
            dynamodb.put_item(TableName=self.of[table], Item=item)

    def received(self, queue: str) -> list[dict[str, Any]]:
        """Receive and delete the messages of a queue."""
        sqs, found = self.client("sqs"), []
        while some := sqs.receive_message(
            QueueUrl=self.of[queue], MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in some:
                sqs.delete_message(QueueUrl=self.of[queue], ReceiptHandle=message["ReceiptHandle"])
                found.append(message)
        return found

    def gather(self, queue: str, enough: Callable[[list[Any]], Any]) -> list[Any]:
        """Collect a queue's messages, parsed as JSON, until `enough` returns true; return them."""
        found: list[Any] = []

        def there() -> bool:
            found.extend(json.loads(message["Body"]) for message in self.received(queue))
            return bool(enough(found))

        until(there, f"the arrival of enough messages in {queue}")
        return found


def flat(batches: list[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(batches))


@pytest.fixture(scope="module")
def stack(cloud: LocalCloud) -> Iterator[Stack]:
    cloud.configure(stream_retry=0.05, lambda_concurrent_executions=107)
    yield Stack(cloud)
    cloud.configure(stream_retry=None, lambda_concurrent_executions=None)


@pytest.fixture
def struck(cloud: LocalCloud) -> Iterator[Callable[[str], int]]:
    """`struck(NAME)` returns the number of times that the fault NAME was injected in this test."""
    yield lambda name: cloud.status()["faults"][name]["injected"]
    cloud.configure(**dict.fromkeys(faults.DEFAULTS), faults_injected=None)


# Streams


def test_only_the_failing_record_is_discarded_when_batches_are_bisected(stack: Stack) -> None:
    stack.put("Bisected", "a", "b", "poison-1", "c")

    (lost,) = stack.gather("Lost", lambda found: found)
    seen = stack.gather("Seen", lambda found: ["c"] in found)

    # Then every other record was processed, and the failure destination got the failed record
    assert {"a", "b", "c"} <= set(flat([batch for batch in seen if "poison-1" not in batch]))
    assert seen.count(["poison-1"]) == 2  # one attempt and one retry
    assert lost["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert lost["DDBStreamBatchInfo"]["batchSize"] == 1


def test_failing_batch_is_retried_up_to_the_mappings_maximum(stack: Stack) -> None:
    stack.put("Bounded", "poison-2")
    (lost,) = stack.gather("Lost", lambda found: found)
    assert lost["requestContext"]["condition"] == "RetryAttemptsExhausted"

    # and later records are delivered
    stack.put("Bounded", "after")
    seen = stack.gather("Seen", lambda found: ["after"] in found)
    assert seen.count(["poison-2"]) == 3


def test_batch_is_retried_from_the_first_reported_failure(stack: Stack) -> None:
    stack.put("Reported", "d", "poison-3", "e")
    (lost,) = stack.gather("Lost", lambda found: found)
    seen = stack.gather("Seen", lambda found: len(found) >= 2)
    # the function first got the whole batch, and then the batch without the record "d", which it had
    # processed
    assert seen == [["d", "poison-3", "e"], ["poison-3", "e"]]
    assert lost["DDBStreamBatchInfo"]["batchSize"] == 2


@pytest.mark.parametrize("answer", ["reported", "invalid"])
def test_a_queue_delivers_again_what_failed_or_was_answered_invalidly(stack: Stack, answer: str) -> None:
    # given a message for which the function reports a failure at first, or answers with a null identifier
    stack.client("sqs").send_message(QueueUrl=stack.of["Messages"], MessageBody=answer)
    # then the message is delivered again after its visibility timeout
    stack.gather("Heard", lambda found: flat(found).count(answer) == 2)


def test_filter_passes_matching_records_only(stack: Stack) -> None:
    for status in ("QUEUED", "TRAINING", "READY"):
        stack.put("Filtered", "f", status=status)
    # the filter passes only items whose status changes to READY; g has this status from the start
    stack.put("Filtered", "g", status="READY")
    stack.put("Filtered", "h", status="OTHER")
    stack.put("Filtered", "h", status="READY")

    assert flat(stack.gather("Seen", lambda found: "h" in flat(found))) == ["f", "h"]


# Events and notifications


def test_failed_event_is_retried_then_dead_lettered_unchanged(stack: Stack) -> None:
    entry = {"Source": "tests", "DetailType": "test", "Detail": json.dumps({"number": 1})}
    stack.client("events").put_events(Entries=[entry])

    letters: list[Any] = []
    until(lambda: letters.extend(stack.received("Letters")) or letters, "the arrival of the dead letter")
    assert json.loads(letters[0]["Body"])["detail"] == {"number": 1}
    assert letters[0]["MessageAttributes"]["ErrorMessage"]["StringValue"] == "never"
    assert stack.gather("Seen", lambda found: len(found) >= 3) == [["failed", {"number": 1}]] * 3
    # and an event that could not be delivered is in the rule's own dead-letter queue
    assert stack.gather("RuleLetters", lambda found: found)[0]["detail"] == {"number": 1}


def test_notification_filters_by_suffix_and_failures_become_dead_letters(stack: Stack) -> None:
    s3 = stack.client("s3")
    for key in ("jobs/j/checkpoints/r/progress.json", "jobs/j/checkpoints/r/result.json", "result.json"):
        s3.put_object(Bucket=stack.of["Bucket"], Key=key, Body=b"{}")

    (letter,) = stack.gather("Letters", lambda found: found)

    assert letter["Records"][0]["s3"]["object"]["key"] == "jobs/j/checkpoints/r/result.json"
    seen = stack.gather("Seen", lambda found: len(found) >= 3)
    assert seen == [["failed", ["jobs/j/checkpoints/r/result.json"]]] * 3


def test_reserved_concurrency_is_that_of_the_template(stack: Stack) -> None:
    found = stack.client("lambda").get_function_concurrency(FunctionName=stack.of["Fails"])
    assert found["ReservedConcurrentExecutions"] == 7


REFUSED = "decreases account's UnreservedConcurrentExecution below its minimum value of [{}]."


@pytest.mark.parametrize(("limit", "wanted", "least"), [(10, 1, 10), (107, 8, 100), (1000, 901, 100)])
def test_lambda_refuses_a_reservation_that_leaves_too_little(
    stack: Stack, cloud: LocalCloud, limit: int, wanted: int, least: int
) -> None:
    cloud.configure(lambda_concurrent_executions=limit)
    try:
        with pytest.raises(ClientError) as refused:
            stack.client("lambda").put_function_concurrency(
                FunctionName=stack.of["Fails"], ReservedConcurrentExecutions=wanted
            )
        shown = stack.client("lambda").get_account_settings()["AccountLimit"]
    finally:
        cloud.configure(lambda_concurrent_executions=107)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert REFUSED.format(least) in str(refused.value)
    assert shown["ConcurrentExecutions"] == limit
    found = stack.client("lambda").get_function_concurrency(FunctionName=stack.of["Fails"])
    assert found["ReservedConcurrentExecutions"] == 7


def test_stack_fails_when_it_reserves_more_concurrency_than_is_available(
    stack: Stack, cloud: LocalCloud
) -> None:
    formation, name = stack.client("cloudformation"), f"reserves-{uuid.uuid4().hex[:8]}"
    role = stack.client("lambda").get_function(FunctionName=stack.of["Fails"])["Configuration"]["Role"]
    function = {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Code": {"ZipFile": "def handler(event, context): pass"},
            "Handler": "index.handler",
            "Runtime": "python3.11",
            "Role": role,
            "ReservedConcurrentExecutions": 1,
        },
    }
    cloud.configure(lambda_concurrent_executions=10)
    try:
        formation.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": {"Reserves": function}}))
        until(
            lambda: (
                formation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "ROLLBACK_COMPLETE"
            ),
            "the rollback of the stack",
        )
    finally:
        cloud.configure(lambda_concurrent_executions=107)
    events = formation.describe_stack_events(StackName=name)["StackEvents"]
    reasons = [each.get("ResourceStatusReason", "") for each in events]
    assert any(REFUSED.format(10) in each and "HandlerErrorCode: InvalidRequest" in each for each in reasons)


def test_cancelled_transaction_has_a_reason_for_each_write(stack: Stack) -> None:
    dynamodb, table = stack.client("dynamodb"), stack.of["Done"]
    stack.put("Done", "there", status="READY")

    def put(key: str, condition: str) -> dict[str, Any]:
        item = {"TableName": table, "Item": {"id": {"S": key}}, "ConditionExpression": condition}
        return {"Put": item | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}}

    absent = "attribute_not_exists(id)"
    with pytest.raises(ClientError) as refused:
        dynamodb.transact_write_items(TransactItems=[put("new", absent), put("there", absent)])

    answer: Any = refused.value.response
    first, second = answer["CancellationReasons"]
    assert answer["Error"]["Code"] == "TransactionCanceledException"
    assert (first["Code"], second["Code"]) == ("None", "ConditionalCheckFailed")
    assert second["Item"]["status"] == {"S": "READY"}
    assert "Item" not in dynamodb.get_item(TableName=table, Key={"id": {"S": "new"}})  # nothing was written
    assert "[None, ConditionalCheckFailed]" in answer["Error"]["Message"]


# Faults


def test_injected_faults_repeat_and_delay_records(
    stack: Stack, cloud: LocalCloud, struck: Callable[[str], int]
) -> None:
    cloud.configure(fault_repeat_stream_batches=1, fault_stream_seconds=0.5)
    stack.put("Bounded", "twice")
    assert stack.gather("Seen", lambda found: len(found) == 2) == [["twice"], ["twice"]]
    assert struck("fault_repeat_stream_batches") == 1

    cloud.configure(fault_delay_stream_batches=1, fault_stream_seconds=1.0)
    began = time.monotonic()
    stack.put("Bounded", "late")
    assert stack.gather("Seen", lambda found: found) == [["late"]]
    assert time.monotonic() - began >= 1.0
    assert struck("fault_delay_stream_batches") == 1


@pytest.mark.parametrize("write", [1, 2, 3])
def test_injected_fault_kills_a_function_before_the_given_write(
    stack: Stack, cloud: LocalCloud, struck: Callable[[str], int], write: int
) -> None:
    run = uuid.uuid4().hex[:6]
    cloud.configure(fault_kill_functions=1, fault_kill_at_write=write, fault_kill_function="Steps")

    def call() -> dict[str, Any]:
        return stack.client("lambda").invoke(
            FunctionName=stack.of["Steps"], Payload=json.dumps({"run": run}).encode()
        )

    def done() -> list[str]:
        dynamodb, keys = stack.client("dynamodb"), (f"{run}-{number}" for number in range(3))
        found = {key: dynamodb.get_item(TableName=stack.of["Done"], Key={"id": {"S": key}}) for key in keys}
        return [key for key, answer in found.items() if "Item" in answer]

    killed = call()
    assert (killed["FunctionError"], json.load(killed["Payload"])["errorType"]) == (
        "Unhandled",
        "Runtime.ExitError",
    )
    assert done() == [f"{run}-{number}" for number in range(write - 1)]
    at = cloud.status()["faults"]["fault_kill_functions"]["at"]
    assert [(where.rpartition(" ")[2], count) for where, count in at.items()] == [(str(write), 1)]
    # and the next invocation is not affected
    assert json.load(call()["Payload"]) == "done"
    assert len(done()) == 3


def test_writes_are_counted_within_one_invocation(
    stack: Stack, cloud: LocalCloud, struck: Callable[[str], int]
) -> None:
    cloud.configure(fault_kill_functions=1, fault_kill_at_write=4, fault_kill_function="Steps")
    for run in (uuid.uuid4().hex[:6] for _ in range(3)):
        payload = json.dumps({"run": run}).encode()
        answer = stack.client("lambda").invoke(FunctionName=stack.of["Steps"], Payload=payload)
        assert json.load(answer["Payload"]) == "done"
    assert struck("fault_kill_functions") == 0
    assert cloud.status()["function_writes"][stack.of["Steps"]] == 3


def test_injected_fault_loses_object_events(
    stack: Stack, cloud: LocalCloud, struck: Callable[[str], int]
) -> None:
    cloud.configure(fault_lose_object_events=2)
    for key in ("told/1", "other", "told/2"):
        stack.client("s3").put_object(Bucket=stack.of["Bucket"], Key=key, Body=b"")
    until(lambda: struck("fault_lose_object_events") == 2, "the loss of two events")
    stack.client("s3").put_object(Bucket=stack.of["Bucket"], Key="told/3", Body=b"")
    (event,) = stack.gather("Told", lambda found: found)
    assert event["detail"]["object"]["key"] == "told/3"


def test_invalid_fault_setting_is_refused(cloud: LocalCloud) -> None:
    with pytest.raises(Exception, match="fault_nonsense is not a setting"):
        cloud.configure(fault_nonsense=1)
    with pytest.raises(Exception, match="fault_kill_function must be a text or null"):
        cloud.configure(fault_kill_function=1)


# A restart


def test_stream_delivery_resumes_after_a_restart(tmp_path: Path) -> None:
    with LocalCloud(tmp_path / "cloud") as cloud:
        cloud.configure(lambda_concurrent_executions=107)  # one function of the stack reserves 7 of them
        stack = Stack(cloud)
        for number in range(5):
            stack.put("Bounded", f"before-{number}")
        stack.gather("Seen", lambda found: len(flat(found)) == 5)
        cloud.configure(fault_delay_stream_batches=1, fault_stream_seconds=600)
        stack.put("Bounded", "meanwhile")  # its delivery is delayed until the restart
        until(
            lambda: cloud.status()["faults"]["fault_delay_stream_batches"]["injected"], "the delay of a batch"
        )

        cloud.stop()
        cloud.start()
        stack.put("Bounded", "after")

        assert flat(stack.gather("Seen", lambda found: "after" in flat(found))) == ["meanwhile", "after"]
        assert cloud.status()["faults"]["fault_delay_stream_batches"] == {"injected": 1, "left": 0}
