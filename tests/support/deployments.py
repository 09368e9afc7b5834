"""Roles, state machines, stacks and requests for tests of the local cloud."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tests.support.waiting import until

ACCOUNT, REGION = "000000000000", "eu-west-1"
ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
PROGRAM = """
import http.server, json, os, pathlib, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
if sys.argv[1] == "train":
    asked = json.loads((base / "input/config/hyperparameters.json").read_text())
    time.sleep(float(asked.get("seconds", "0")))
    if "failure" in asked:
        (base / "output/failure").write_text(asked["failure"])
        sys.exit(1)
    (base / "model/model.txt").write_text("a model")
else:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if os.environ.get("HEALTHY", "yes") == "yes" else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()
        def do_POST(self):
            answer = os.environ.get("ANSWER", "none").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
    address = os.environ.get("BIND_HOST", "0.0.0.0"), int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""
names = (f"hooks-{number}" for number in itertools.count())


def role(aws: Callable, service: str, *grants: tuple[str, str]) -> str:
    """Create a role that the service can assume, with `(action, resource)` grants; return its ARN."""
    name = next(names)
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    made = aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))
    if grants:
        statements = [{"Effect": "Allow", "Action": action, "Resource": on} for action, on in grants]
        aws("iam").put_role_policy(RoleName=name, PolicyName="grants", PolicyDocument=policy(*statements))
    return made["Role"]["Arn"]


def policy(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow_events(sqs: Any, queue: str) -> str:
    """Let EventBridge send to the queue with this URL; return the queue's ARN."""
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    service = {"Service": "events.amazonaws.com"}
    allowed = {"Effect": "Allow", "Principal": service, "Action": "sqs:SendMessage", "Resource": arn}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy(allowed)})
    return arn


def training(image: str, bucket: str, execution_role: str, **asked: str) -> dict[str, Any]:
    return {
        "TrainingJobName": next(names),
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "RoleArn": execution_role,
        "HyperParameters": asked,
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 120},
    }


class Machine:
    """A state machine with a single task and a role with the given grants."""

    def __init__(self, aws: Callable, state: dict[str, Any], *grants: tuple[str, str], **definition: Any):
        self._states = aws("stepfunctions")
        only = state if state["Type"] in ("Succeed", "Fail") else {"End": True} | state
        document = {"StartAt": "Only", "States": {"Only": only}, "QueryLanguage": "JSONata"}
        self.arn = self._states.create_state_machine(
            name=next(names),
            definition=json.dumps(document | definition),
            roleArn=role(aws, "states.amazonaws.com", *grants),
        )["stateMachineArn"]

    def start(self) -> str:
        return self._states.start_execution(stateMachineArn=self.arn)["executionArn"]

    def stop(self, execution: str) -> None:
        self._states.stop_execution(executionArn=execution)

    def described(self, execution: str) -> dict[str, Any]:
        return self._states.describe_execution(executionArn=execution)

    def run(self) -> dict[str, Any]:
        """Start an execution, wait for its end and return its description."""
        execution = self.start()
        return until(lambda: self.ended(execution), "the execution's end")

    def ended(self, execution: str) -> dict[str, Any] | None:
        described = self.described(execution)
        return described if described["status"] != "RUNNING" else None


def task(resource: str, arguments: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Arguments": arguments} | fields


RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule"
SYNC = (
    ("sagemaker:CreateTrainingJob", "*"),
    ("sagemaker:DescribeTrainingJob", "*"),
    ("sagemaker:StopTrainingJob", "*"),
    ("sagemaker:ListTags", "*"),
    ("iam:PassRole", "*"),
    ("events:*", RULE),
)
"""Grants that a state machine needs for `createTrainingJob.sync`, as AWS documents them."""


def job(aws: Callable, name: str) -> dict[str, Any]:
    """Wait for the end of a training job; return its description."""

    def ended() -> dict[str, Any] | None:
        found = aws("sagemaker").describe_training_job(TrainingJobName=name)
        return found if found["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None

    return until(ended, "the job's end")


def assumed(aws: Callable, *grants: tuple[str, str]) -> dict[str, str]:
    """Return credentials of a new role with these grants only."""
    arn = role(aws, "lambda.amazonaws.com", *grants)
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    aws("iam").update_assume_role_policy(RoleName=arn.rpartition("/")[2], PolicyDocument=policy(trust))
    session = aws("sts").assume_role(RoleArn=arn, RoleSessionName="someone")["Credentials"]
    return {
        "aws_access_key_id": session["AccessKeyId"],
        "aws_secret_access_key": session["SecretAccessKey"],
        "aws_session_token": session["SessionToken"],
    }


class Stack:
    def __init__(self, aws: Callable):
        self._formation, self.name = aws("cloudformation"), next(names)

    def create(self, resources: dict[str, Any], outputs: dict[str, Any] | None = None) -> str:
        self._formation.create_stack(
            StackName=self.name,
            TemplateBody=self._template(resources, outputs),
            Tags=[{"Key": "team", "Value": "ours"}],
            Capabilities=["CAPABILITY_IAM"],
        )
        return self.settled()

    def update(self, resources: dict[str, Any], outputs: dict[str, Any] | None = None) -> str:
        self._formation.update_stack(StackName=self.name, TemplateBody=self._template(resources, outputs),
                                     Tags=[{"Key": "team", "Value": "ours"}])  # fmt: skip
        return self.settled()

    def delete(self) -> None:
        self._formation.delete_stack(StackName=self.name)
        until(lambda: self._described().get("StackStatus", "DELETE_COMPLETE") == "DELETE_COMPLETE", "the end")

    def settled(self) -> str:
        def status() -> str | None:
            found = self._described()["StackStatus"]
            return None if found.endswith("_IN_PROGRESS") else found

        return until(status, "the stack's end")

    @property
    def outputs(self) -> dict[str, str]:
        return {one["OutputKey"]: one["OutputValue"] for one in self._described().get("Outputs", [])}

    @property
    def reasons(self) -> str:
        events = self._formation.describe_stack_events(StackName=self.name)["StackEvents"]
        return "\n".join(event.get("ResourceStatusReason", "") for event in events)

    def _described(self) -> dict[str, Any]:
        try:
            return self._formation.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError:
            return {}

    def _template(self, resources: dict[str, Any], outputs: dict[str, Any] | None) -> str:
        shown = {key: {"Value": value} for key, value in (outputs or {}).items()}
        return json.dumps({"Resources": resources, "Outputs": shown})


def hosting(image: str, execution_role: str, **environment: str) -> dict[str, Any]:
    """Return the CloudFormation resources of a model, an endpoint configuration and an endpoint, with
    generated names."""
    container = {"Image": image, "Environment": environment}
    variant = {
        "VariantName": "all",
        "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
        "InitialVariantWeight": 1,
        "ServerlessConfig": {"MaxConcurrency": "2", "MemorySizeInMB": 2048},
    }
    return {
        "Model": {
            "Type": "AWS::SageMaker::Model",
            "Properties": {"PrimaryContainer": container, "ExecutionRoleArn": execution_role},
        },
        "Config": {"Type": "AWS::SageMaker::EndpointConfig", "Properties": {"ProductionVariants": [variant]}},
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {"EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]}},
        },
    }


HOSTED = {
    "Ref": {"Ref": "Model"},
    "Model": {"Fn::GetAtt": ["Model", "ModelName"]},
    "Config": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
    "Endpoint": {"Fn::GetAtt": ["Endpoint", "EndpointName"]},
}


def asked(aws: Callable, endpoint: str) -> str:
    return aws("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"?")["Body"].read().decode()
