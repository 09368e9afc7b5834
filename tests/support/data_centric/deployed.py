"""A deployed stack of data_centric with users, and operations on it for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.cloud import LocalCloud
from tests.support.clouds import client
from tests.support.data_centric.labelers import Client, sign_up
from tests.support.waiting import until

STACK = "groundplan-dev-data-centric"
CLASSES = ["cat", "dog", "owl"]
PEOPLE = ("ann", "bob", "cat", "dan", "eve")
PATIENCE = 600
"""Timeout in seconds for a run to open or to end."""


@dataclass
class Deployed:
    cloud: LocalCloud
    out: Mapping[str, str]
    tokens: Mapping[str, str]
    """ID tokens, by name, of the labelers, of `operator` in the group `operators`, and of `expert` in the
    groups `experts` and `operators`"""
    ask: Client

    def client(self, service: str) -> Any:
        return client(self.cloud, service)

    @property
    def bucket(self) -> str:
        return self.out["DataBucket"]

    def put(self, key: str, body: bytes) -> str:
        self.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def get(self, address: str) -> bytes:
        bucket, _, key = address.removeprefix("s3://").partition("/")
        return self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()

    def manifest(self, name: str, lines: list[dict[str, Any]]) -> str:
        return self.put(
            f"inputs/{name}.manifest", "".join(json.dumps(line) + "\n" for line in lines).encode()
        )

    def pictures(self, folder: str, count: int) -> list[str]:
        return [self.put(f"inputs/{folder}/{n}.png", f"picture {n}".encode()) for n in range(count)]

    def start(self, **given: Any) -> str:
        """Start an execution of the state machine `Label`; return the execution's ARN."""
        settings = {"classes": CLASSES, "lease_seconds": 30} | given.pop("settings", {})
        return self.begin("LabelArn", {**given, "settings": settings})

    def begin(self, machine: str, given: Mapping[str, Any]) -> str:
        """Start an execution of the state machine whose ARN is the stack's output `machine`; return the
        execution's ARN."""
        started = self.client("stepfunctions").start_execution(
            stateMachineArn=self.out[machine], input=json.dumps(given)
        )
        return started["executionArn"]

    def state(self, execution: str) -> dict[str, Any]:
        return self.client("stepfunctions").describe_execution(executionArn=execution)

    def ended(self, execution: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            state = self.state(execution)
            return state if state["status"] != "RUNNING" else None

        return until(found, "the execution's end", PATIENCE)

    def opened(self, run: str, execution: str, token: str) -> dict[str, Any]:
        """Wait until the API lists the run for the labeler with this token; return the listed run."""

        def found() -> dict[str, Any] | None:
            state = self.state(execution)
            assert state["status"] == "RUNNING", state
            _, told = self.ask("GET", "/api/runs", token)
            return next((each for each in told["runs"] if each["name"] == run), None)

        return until(found, f"the run {run}", PATIENCE)


def deploy(cloud: LocalCloud) -> Deployed:
    """Deploy the stack with a separate KMS key, sign users up, and then enforce IAM."""
    out = cloud.deploy(STACK, context={"only": "data_centric", "data_centric.own_key": "true"})[STACK]
    cognito = client(cloud, "cognito-idp")
    cognito.create_group(UserPoolId=out["UserPoolId"], GroupName="experts")
    tokens = {name: sign_up(cognito, out, name) for name in (*PEOPLE, "gone")}
    tokens["operator"] = sign_up(cognito, out, "operator", "operators")
    tokens["expert"] = sign_up(cognito, out, "expert", "experts", "operators")
    cloud.enforce_iam(True)
    return Deployed(cloud, out, tokens, Client(cloud, out["SiteUrl"]))
