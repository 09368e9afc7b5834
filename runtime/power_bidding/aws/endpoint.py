"""SageMaker: invoke, create and delete the model's endpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from power_bidding.aws.parameters import EndpointParameter
from power_bidding.core.bid_ports import EndpointThrottledError, ModelAnswerError, Serving
from power_bidding.core.deployment import EndpointState

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

BUSY = ("ThrottlingException", "ModelNotReadyException", "ServiceUnavailable", "InternalFailure")
BUSY_STATUS = (429, 503, 504)
VARIANT = "main"
LONGEST_TEXT = 500
MISSING = "Missing"


class EndpointModels:
    """Implementation of `bid_ports.Models`: invokes an endpoint."""

    def __init__(self, client: SageMakerRuntimeClient, parameter: EndpointParameter):
        self.client, self.parameter = client, parameter

    def serving(self) -> Serving | None:
        return self.parameter.get().now

    def ask(self, endpoint: str, request: Mapping[str, Any]) -> Any:
        body = json.dumps(request, allow_nan=False).encode()
        try:
            answer = self.client.invoke_endpoint(
                EndpointName=endpoint,
                ContentType="application/json",
                Accept="application/json",
                Body=body,
            )
            return json.loads(answer["Body"].read())
        except ClientError as error:
            raise _meaning(error) from error
        except (ConnectionError, HTTPClientError) as error:
            raise EndpointThrottledError(f"{endpoint} did not answer: {type(error).__name__}") from error
        except ValueError as error:
            raise ModelAnswerError(f"the response of {endpoint} is not JSON") from error


def _meaning(error: ClientError) -> Exception:
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code in BUSY:
        return EndpointThrottledError(f"{code}: {message}"[:LONGEST_TEXT])
    if code == "ModelError":
        status = int(error.response.get("OriginalStatusCode") or 500)
        said = f"HTTP {status} from the model: {error.response.get('OriginalMessage', message)}"[
            :LONGEST_TEXT
        ]
        return EndpointThrottledError(said) if status in BUSY_STATUS else ModelAnswerError(said)
    return ModelAnswerError(f"{code}: {message}"[:LONGEST_TEXT])


class SageMakerEndpoints:
    """`deployment.Endpoints` on SageMaker. Model, endpoint configuration and endpoint have the same name."""

    def __init__(
        self,
        client: SageMakerClient,
        logs: CloudWatchLogsClient,
        prefix: str,
        role: str,
        hosting: Mapping[str, Any],
    ):
        """
        :param hosting: {"variant": fields of a ProductionVariant, "vpc": VpcConfig or {}, "key": ARN of the
            key that encrypts the storage of instances, or "", "tags": {…}, "log_days": retention of an
            endpoint's log in days, "log_key": ARN of the key that encrypts the log, or ""}
        """
        self.client, self.logs = client, logs
        self.prefix, self.role, self.hosting = prefix, role, hosting

    def create(self, name: str, source: Mapping[str, str]) -> None:
        tags: Any = [{"Key": key, "Value": value} for key, value in self.hosting["tags"].items()]
        container: Any = (
            {"ModelPackageName": source["model_package_arn"]}
            if "model_package_arn" in source
            else {"Image": source["image"], "ModelDataUrl": source["model_data"]}
        )
        vpc: Any = {"VpcConfig": self.hosting["vpc"]} if self.hosting["vpc"] else {}
        key: Any = {"KmsKeyId": self.hosting["key"]} if self.hosting["key"] else {}
        variant: Any = {"VariantName": VARIANT, "ModelName": name, **self.hosting["variant"]}
        _unless_there(
            lambda: self.client.create_model(
                ModelName=name, ExecutionRoleArn=self.role, PrimaryContainer=container, Tags=tags, **vpc
            )
        )
        _unless_there(
            lambda: self.client.create_endpoint_config(
                EndpointConfigName=name, ProductionVariants=[variant], Tags=tags, **key
            )
        )
        self._create_log(name)
        _unless_there(
            lambda: self.client.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=tags)
        )

    def _create_log(self, name: str) -> None:
        """Create the endpoint's log group. A log group that SageMaker creates keeps events forever."""
        group = f"/aws/sagemaker/Endpoints/{name}"
        key: Any = {"kmsKeyId": self.hosting["log_key"]} if self.hosting["log_key"] else {}
        _unless_there(lambda: self.logs.create_log_group(logGroupName=group, **key))
        self.logs.put_retention_policy(logGroupName=group, retentionInDays=self.hosting["log_days"])

    def model_data(self, name: str) -> str:
        """Return the S3 address of the archive with an endpoint's model."""
        found = self.client.describe_model(ModelName=name)["PrimaryContainer"]
        return found.get("ModelDataUrl", "")

    def state(self, name: str) -> EndpointState:
        try:
            found = self.client.describe_endpoint(EndpointName=name)
        except ClientError as error:
            if _not_there(error):
                return EndpointState(MISSING, "")
            raise
        return EndpointState(found["EndpointStatus"], found.get("FailureReason", ""))

    def names(self) -> Sequence[str]:
        pages = self.client.get_paginator("list_endpoints").paginate(NameContains=self.prefix)
        return [
            each["EndpointName"]
            for page in pages
            for each in page["Endpoints"]
            if each["EndpointStatus"] not in ("Creating", "Deleting")
        ]

    def delete(self, name: str) -> None:
        _unless_gone(lambda: self.client.delete_endpoint(EndpointName=name))
        _unless_gone(lambda: self.client.delete_endpoint_config(EndpointConfigName=name))
        _unless_gone(lambda: self.client.delete_model(ModelName=name))


def _unless_there(create: Any) -> None:
    try:
        create()
    except ClientError as error:
        if "already exist" not in error.response["Error"].get("Message", ""):
            raise


def _unless_gone(delete: Any) -> None:
    try:
        delete()
    except ClientError as error:
        if not _not_there(error):
            raise


def _not_there(error: ClientError) -> bool:
    said = error.response["Error"]
    return said["Code"] == "ValidationException" and "Could not find" in said.get("Message", "")
