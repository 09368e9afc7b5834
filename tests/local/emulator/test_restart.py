"""State machines of a cloud that crashes: their executions continue after the restart."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from aws_cdk import Aws

from groundplan.states import Flow
from local.cloud import LocalCloud
from tests.support.clouds import client
from tests.support.deployments import names, role
from tests.support.waiting import until


def test_execution_continues_after_a_crash(tmp_path: Path) -> None:
    with LocalCloud(tmp_path / "cloud") as cloud:
        aws = functools.partial(client, cloud)
        sqs, states = aws("sqs"), aws("stepfunctions")
        # given an execution that has sent a message, and waits
        queue = sqs.create_queue(QueueName=next(names))["QueueUrl"]
        flow = Flow()
        flow.settle("Begin", {**Flow.UNFAILED, "at": "Begin", "greeting": "hello"}, "Send")
        flow.call("Send", "sqs:sendMessage", {"QueueUrl": queue, "MessageBody": "once"}, "Wait")
        flow.pause("Wait", 3, "Report")
        flow.report("Report", "{% $greeting %}")
        machine = states.create_state_machine(
            name=next(names),
            definition=json.dumps(flow.definition("Begin", seconds=60)).replace(Aws.PARTITION, "aws"),
            roleArn=role(aws, "states.amazonaws.com", ("sqs:SendMessage", "*")),
        )["stateMachineArn"]
        execution = states.start_execution(stateMachineArn=machine)["executionArn"]

        def events(kind: str) -> list[dict]:
            found = states.get_execution_history(executionArn=execution)["events"]
            return [each for each in found if each["type"] == kind]

        until(lambda: events("WaitStateEntered"), "the start of the Wait state")
        # when the cloud crashes and starts again
        cloud.crash()
        cloud.start()
        # then the execution ends with the values from before the crash, and has sent no second message
        until(lambda: events("ExecutionSucceeded"), "the execution's end")
        ended = states.describe_execution(executionArn=execution)
        assert (ended["status"], json.loads(ended["output"])) == ("SUCCEEDED", "hello")
        assert len(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]) == 1
        assert len(events("TaskSucceeded")) == 1
