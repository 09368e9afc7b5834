"""Requests to the MLflow REST API of a SageMaker MLflow app, signed as AWS's MLflow plugin signs them.

https://github.com/aws/sagemaker-mlflow
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

ENDPOINT = "SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT"
"""Environment variable, also read by the plugin, with a URL of the API to use instead of AWS's."""
HEADER = "x-sm-mlflow-app-arn"
SERVICE = "sagemaker"
SECONDS = 60


class MlflowError(Exception):
    """MLflow rejected a request, or did not answer. `code` is MLflow's error code, or empty."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code


class MlflowApp:
    """Implementation of `tracking.Tracking` with the SageMaker MLflow app that has the ARN `arn`."""

    def __init__(self, session: boto3.Session, arn: str) -> None:
        self.session, self.arn = session, arn
        self.region = arn.split(":")[3]
        endpoint = os.environ.get(ENDPOINT) or f"https://mlflow.sagemaker.{self.region}.app.aws"
        if not endpoint.startswith(("https://", "http://")):
            raise ValueError(f"{ENDPOINT} must be an HTTP or HTTPS URL, got {endpoint!r}")
        self.endpoint = endpoint.rstrip("/")

    def post(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Call an operation such as `runs/create`. Raises `MlflowError`."""
        return self._call("POST", name, json.dumps(body, allow_nan=False).encode())

    def find_experiment(self, name: str) -> str | None:
        """Return the id of an experiment; None if no experiment has the name."""
        query = urllib.parse.urlencode({"experiment_name": name}, quote_via=urllib.parse.quote)
        try:
            found = self._call("GET", f"experiments/get-by-name?{query}", b"")
        except MlflowError as error:
            if error.code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return found["experiment"]["experiment_id"]

    def _call(self, method: str, name: str, body: bytes) -> dict[str, Any]:
        url = f"{self.endpoint}/api/2.0/mlflow/{name}"
        headers = {HEADER: self.arn, "X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}
        headers |= {"Content-Type": "application/json"} if body else {}
        request = AWSRequest(method=method, url=url, data=body, headers=headers)
        credentials = self.session.get_credentials()
        if credentials is None:
            raise MlflowError("", "the Lambda function has no AWS credentials")
        SigV4Auth(credentials, SERVICE, self.region).add_auth(request)
        sent = urllib.request.Request(  # noqa: S310 - `__init__` checks the scheme
            url, data=body or None, headers=dict(request.headers), method=method
        )
        try:
            with urllib.request.urlopen(sent, timeout=SECONDS) as answer:  # noqa: S310 - `__init__` checks the scheme
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise _refusal(error.code, error.read()) from None
        except OSError as error:
            raise MlflowError("", f"MLflow does not answer: {error}") from error


def _refusal(status: int, body: bytes) -> MlflowError:
    try:
        found = json.loads(body)
    except ValueError:
        found = {}
    found = found if isinstance(found, dict) else {}
    return MlflowError(
        str(found.get("error_code", "")), str(found.get("message", f"MLflow answered with status {status}"))
    )
