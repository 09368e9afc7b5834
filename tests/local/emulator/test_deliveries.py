"""Deliveries by AWS services to functions, queues and topics whose policies do or do not allow them; IAM is
enforced."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from local.cloud import LocalCloud
from tests.support.deployments import ACCOUNT, REGION, Machine, names, policy, role
from tests.support.waiting import until

FUNCTION = """
import os, boto3
def handler(event, context):
    boto3.client("sqs").send_message(QueueUrl=os.environ["SEEN"], MessageBody="invoked")
    return {"statusCode": 200}
"""
PASS = {"Type": "Pass"}
pytestmark = pytest.mark.usefixtures("enforced")


class Target:
    """A target of deliveries: a function, a queue or a topic. Its deliveries arrive in `queue`."""

    def __init__(self, aws: Callable, kind: str):
        self._aws, self._kind, self._name = aws, kind, next(names)
        self.queue = aws("sqs").create_queue(QueueName=self._name)["QueueUrl"]
        self.arn = queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self._name}"
        if kind == "function":
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("index.py", FUNCTION)
            self.arn = aws("lambda").create_function(
                FunctionName=self._name,
                Runtime="python3.11",
                Handler="index.handler",
                Role=role(aws, "lambda.amazonaws.com", ("sqs:*", "*"), ("logs:*", "*")),
                Code={"ZipFile": file.getvalue()},
                Environment={"Variables": {"SEEN": self.queue}},
            )["FunctionArn"]
        elif kind == "topic":
            self.arn = aws("sns").create_topic(Name=self._name)["TopicArn"]
            self._set_policy("sqs", "sns", self.arn, queue)
            aws("sns").subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=queue)
            aws("sns").set_topic_attributes(
                TopicArn=self.arn,
                AttributeName="Policy",
                AttributeValue=policy(self._statement("sns", "lambda", "arn:aws:lambda:::nothing", self.arn)),
            )

    def allow(self, service: str, source: str) -> None:
        """Allow a service to deliver to the target on behalf of the resource whose ARN is `source`."""
        if self._kind == "function":
            self._aws("lambda").add_permission(
                FunctionName=self._name,
                StatementId="allowed",
                Action="lambda:InvokeFunction",
                Principal=f"{service}.amazonaws.com",
                SourceArn=source,
            )
        else:
            self._set_policy("sqs" if self._kind == "queue" else "sns", service, source, self.arn)

    def _set_policy(self, target: str, service: str, source: str, arn: str) -> None:
        document = policy(self._statement(target, service, source, arn))
        if target == "sqs":
            self._aws("sqs").set_queue_attributes(QueueUrl=self.queue, Attributes={"Policy": document})
        else:
            self._aws("sns").set_topic_attributes(
                TopicArn=arn, AttributeName="Policy", AttributeValue=document
            )

    @staticmethod
    def _statement(target: str, service: str, source: str, arn: str) -> dict[str, Any]:
        return {
            "Effect": "Allow",
            "Principal": {"Service": f"{service}.amazonaws.com"},
            "Action": {"sqs": "sqs:SendMessage", "sns": "sns:Publish"}[target],
            "Resource": arn,
            "Condition": {"ArnLike": {"aws:SourceArn": source}},
        }

    def received(self) -> list[dict[str, Any]]:
        return self._aws("sqs").receive_message(QueueUrl=self.queue).get("Messages", [])


def raise_alarm(aws: Callable, name: str, *topics: str) -> None:
    """Create an alarm that notifies the topics, and put it into the state ALARM."""
    aws("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="n",
        MetricName="m",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=topics,
    )
    aws("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="tried")


@pytest.fixture(params=["function", "queue", "topic"])
def target(aws: Callable, request: pytest.FixtureRequest) -> Target:
    return Target(aws, request.param)


def test_event_reaches_a_target_that_allows_it(aws: Callable, target: Target) -> None:
    # given a rule with a dead-letter queue, and a target that allows another rule only
    events, letters, rule = aws("events"), Target(aws, "queue"), next(names)
    arn = events.put_rule(Name=rule, EventPattern=json.dumps({"source": [rule]}))["RuleArn"]
    letters.allow("events", arn)
    to = {"Id": "1", "Arn": target.arn, "DeadLetterConfig": {"Arn": letters.arn}}
    events.put_targets(Rule=rule, Targets=[to])
    sent = {"Source": rule, "DetailType": "x", "Detail": json.dumps({"number": 1})}
    # when an event is sent, then it is in the dead-letter queue, and not at the target
    events.put_events(Entries=[sent])
    (letter,) = until(letters.received, "the dead letter")
    assert json.loads(letter["Body"])["detail"] == {"number": 1}
    assert target.received() == []
    # when the target allows the rule, then it gets the next event
    target.allow("events", arn)
    events.put_events(Entries=[sent])
    until(target.received, "the event")


def test_rule_starts_a_state_machine_under_its_role(aws: Callable) -> None:
    # given a rule with a dead-letter queue, a state machine, and three roles: two of them lack the grant or
    # the trust in EventBridge
    events, letters, machine, rule = aws("events"), Target(aws, "queue"), Machine(aws, PASS), next(names)
    letters.allow(
        "events", events.put_rule(Name=rule, EventPattern=json.dumps({"source": [rule]}))["RuleArn"]
    )
    start = ("states:StartExecution", machine.arn)
    ungranted, untrusting = role(aws, "events.amazonaws.com"), role(aws, "lambda.amazonaws.com", start)

    def send(**members: str) -> None:
        target = {"Id": "1", "Arn": machine.arn, "DeadLetterConfig": {"Arn": letters.arn}} | members
        events.put_targets(Rule=rule, Targets=[target])
        events.put_events(Entries=[{"Source": rule, "DetailType": "x", "Detail": "{}"}])

    def executions() -> list[dict[str, Any]]:
        return aws("stepfunctions").list_executions(stateMachineArn=machine.arn)["executions"]

    # when an event is sent without a role or with one of these two, then it is a dead letter
    for members in ({}, {"RoleArn": ungranted}, {"RoleArn": untrusting}):
        send(**members)
        until(letters.received, "the dead letter")
    assert executions() == []
    # when the third role is used, then the state machine is started
    send(RoleArn=role(aws, "events.amazonaws.com", start))
    until(executions, "the execution")


def test_event_is_lost_if_its_dead_letter_queue_denies_it(aws: Callable) -> None:
    # given a rule whose function and dead-letter queue do not allow it, and a second target that does
    events, function, letters, last = aws("events"), *(Target(aws, k) for k in ("function", "queue", "queue"))
    rule = next(names)
    arn = events.put_rule(Name=rule, EventPattern=json.dumps({"source": [rule]}))["RuleArn"]
    last.allow("events", arn)
    targets = [
        {"Id": "1", "Arn": function.arn, "DeadLetterConfig": {"Arn": letters.arn}},
        {"Id": "2", "Arn": last.arn},
    ]
    events.put_targets(Rule=rule, Targets=targets)
    # when an event has reached the second target, then it is neither at the function nor in the queue
    events.put_events(Entries=[{"Source": rule, "DetailType": "x", "Detail": "{}"}])
    until(last.received, "the event")
    assert function.received() == letters.received() == []


def test_alarm_is_published_to_a_topic_that_allows_it(aws: Callable) -> None:
    # given an alarm with two topics, one of which allows CloudWatch to publish
    closed, open_, name = Target(aws, "topic"), Target(aws, "topic"), next(names)
    open_.allow("cloudwatch", f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}")
    # when the alarm goes off, then only this topic gets it
    raise_alarm(aws, name, closed.arn, open_.arn)
    until(open_.received, "the alarm")
    assert closed.received() == []


def test_new_topic_allows_alarms_but_no_events(aws: Callable) -> None:
    # given a topic with the policy that SNS gives to new topics, as a target of an alarm and of a rule
    events, name = aws("events"), next(names)
    target = Target(aws, "topic")
    aws("sns").delete_topic(TopicArn=target.arn)
    aws("sns").create_topic(Name=target.arn.rpartition(":")[2])
    aws("sns").subscribe(TopicArn=target.arn, Protocol="sqs", Endpoint=target.arn.replace(":sns:", ":sqs:"))
    rule = events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))["RuleArn"]
    letters = Target(aws, "queue")
    letters.allow("events", rule)
    to = {"Id": "1", "Arn": target.arn, "DeadLetterConfig": {"Arn": letters.arn}}
    events.put_targets(Rule=name, Targets=[to])
    # when an event is sent, then it is a dead letter
    events.put_events(Entries=[{"Source": name, "DetailType": "x", "Detail": "{}"}])
    until(letters.received, "the dead letter")
    assert target.received() == []
    # when the alarm goes off, then the topic gets it
    raise_alarm(aws, name, target.arn)
    until(target.received, "the alarm")


def test_api_invokes_a_function_that_allows_it(cloud: LocalCloud, aws: Callable) -> None:
    # given an API with two routes to a function that allows one of them
    gateway, function = aws("apigatewayv2"), Target(aws, "function")
    api = gateway.create_api(Name=next(names), ProtocolType="HTTP")["ApiId"]
    integration = gateway.create_integration(
        ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=function.arn, PayloadFormatVersion="2.0"
    )["IntegrationId"]
    for route in ("GET /open/{name}", "GET /closed"):
        gateway.create_route(ApiId=api, RouteKey=route, Target=f"integrations/{integration}")
    gateway.create_stage(ApiId=api, StageName="$default", AutoDeploy=True)
    function.allow("apigateway", f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/*/*/open/{{name}}")
    # when both routes are requested, then the allowed one answers, and the other one returns status 500
    address = f"{cloud.endpoint_url}/_aws/execute-api/{api}/$default"
    with urllib.request.urlopen(f"{address}/open/x") as answer:  # noqa: S310
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(f"{address}/closed")  # noqa: S310


@pytest.fixture
def bucket(aws: Callable, cloud: LocalCloud) -> str:
    name = next(names)
    aws("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    return name


def test_object_and_message_reach_a_function_that_allows_them(aws: Callable, bucket: str) -> None:
    # given a bucket and a topic, each with two functions of which one allows it
    s3, sns = aws("s3"), aws("sns")
    topic = sns.create_topic(Name=next(names))["TopicArn"]
    by_object, by_message, closed = (Target(aws, "function") for _ in range(3))
    by_object.allow("s3", f"arn:aws:s3:::{bucket}")
    by_message.allow("sns", topic)
    configured = [
        {"LambdaFunctionArn": each.arn, "Events": ["s3:ObjectCreated:*"]} for each in (closed, by_object)
    ]
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"LambdaFunctionConfigurations": configured}
    )
    for each in (closed, by_message):
        sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=each.arn)
    # when an object is written and a message published, then only the functions that allow it are invoked
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    until(by_object.received, "the object")
    sns.publish(TopicArn=topic, Message="x")
    until(by_message.received, "the message")
    assert closed.received() == []
