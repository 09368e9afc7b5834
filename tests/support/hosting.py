"""Helpers of the hosting tests: a local cloud with a small image in its registry, a role and a bucket."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import uuid
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local.cloud import ACCOUNT, REGION, LocalCloud
from tests.support.processes import processes
from tests.support.waiting import until

CONTAINERS = Path(__file__).parent / "containers"
SERVERLESS = {"MemorySizeInMB": 1024, "MaxConcurrency": 2}
PATIENCE = 60.0  # seconds; a test that waits longer fails


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


class Bench:
    """Clients of a cloud, with the image, bucket and role of a model."""

    def __init__(self, cloud: LocalCloud, container: Path = CONTAINERS / "hosting"):
        self.cloud, self.container = cloud, container
        self.name = unique(container.name.replace("_", "-"))  # unique, because tests share a local cloud
        self.sagemaker = self.client("sagemaker")
        self.runtime = self.client("sagemaker-runtime")
        self.image = self._push()
        self.bucket = f"{self.name}-models"
        s3 = self.client("s3")
        s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.role = self.new_role("serves", *self.grants())

    def client(self, service: Any, **keys: str) -> Any:
        env = self.cloud.env()
        return boto3.Session().client(
            service,
            endpoint_url=self.cloud.endpoint_url,
            region_name=REGION,
            aws_access_key_id=keys.get("access_key", env["AWS_ACCESS_KEY_ID"]),
            aws_secret_access_key=keys.get("secret_key", env["AWS_SECRET_ACCESS_KEY"]),
            aws_session_token=keys.get("token"),
            config=Config(retries={"total_max_attempts": 1}, max_pool_connections=20),
        )

    def folders(self) -> set[Path]:
        """Return the folders of the endpoints' containers on this machine."""
        return set((self.cloud.home / "instances" / "endpoints").glob("*"))

    @staticmethod
    def fetched(folder: Path, model: str) -> bool:
        """Return whether the container in this folder has the files of this model. The container may not
        answer requests yet."""
        try:
            return any(path.read_text() == model for path in folder.rglob("model.txt"))
        except FileNotFoundError:  # the container ended in the meantime
            return False

    def _push(self) -> str:
        ecr = self.client("ecr")
        ecr.create_repository(repositoryName=self.name)
        address = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{self.name}:latest"
        env = os.environ | self.cloud.env()
        for arguments in (
            ["build", "--output=type=docker,oci-mediatypes=false", "--tag", address, str(self.container)],
            ["push", address],
        ):
            subprocess.run([env["CDK_DOCKER"], *arguments], env=env, check=True, capture_output=True)
        return address

    def grants(self, *without: str) -> list[dict[str, Any]]:
        """Return the policy statements of a model's role, except those whose action begins with an element of
        `without`."""
        statements = [
            ("s3:GetObject", f"arn:aws:s3:::{self.bucket}/*"),
            ("s3:ListBucket", f"arn:aws:s3:::{self.bucket}"),
            ("ecr:GetAuthorizationToken", "*"),
            ("ecr:BatchGetImage", "*"),
            ("ecr:BatchCheckLayerAvailability", "*"),
            ("ecr:GetDownloadUrlForLayer", "*"),
            ("logs:CreateLogGroup", "*"),
            ("logs:CreateLogStream", "*"),
            ("logs:PutLogEvents", "*"),
        ]
        return [
            {"Effect": "Allow", "Action": action, "Resource": resource}
            for action, resource in statements
            if not action.startswith(tuple(without))
        ]

    def new_role(self, name: str, *statements: dict[str, Any], service: str = "sagemaker") -> str:
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": f"{service}.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        iam, name = self.client("iam"), unique(name)
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=document)
        return arn

    def as_user(self, service: str, *statements: dict[str, Any]) -> Any:
        """Return a client of a new user with these policy statements."""
        iam, name = self.client("iam"), unique("someone")
        iam.create_user(UserName=name)
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return self.client(service, access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])

    def put(self, key: str, content: bytes) -> str:
        self.client("s3").put_object(Bucket=self.bucket, Key=key, Body=content)
        return f"s3://{self.bucket}/{key}"

    def data(self, text: str) -> str:
        """Upload a model archive with this text in `model.txt`; return its URI."""
        return self.put(f"{unique('data')}/model.tar.gz", archive({"model.txt": text}))

    def model(self, text: str = "one", role: str | None = None, **container: Any) -> str:
        given = {"Image": self.image, "ModelDataUrl": self.data(text)} | container
        definition = {key: value for key, value in given.items() if value is not None}
        name = unique("model")
        self.sagemaker.create_model(
            ModelName=name, PrimaryContainer=definition, ExecutionRoleArn=role or self.role
        )
        return name

    def config(self, *variants: dict[str, Any], model: str | None = None, serverless: bool = False) -> str:
        """Create an endpoint configuration with these variants, or with one variant that serves `model`;
        return the configuration's name."""
        if not variants:
            size = (
                {"ServerlessConfig": SERVERLESS}
                if serverless
                else {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
            )
            variants = ({"VariantName": "AllTraffic", "ModelName": model} | size,)
        name = unique("config")
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=list(variants))
        return name

    def endpoint(self, config: str, status: str = "InService") -> str:
        """Create an endpoint and wait until it has this status; return its name."""
        name = unique("endpoint")
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        assert self.settled(name)["EndpointStatus"] == status, self.describe(name)
        return name

    def describe(self, endpoint: str) -> dict[str, Any]:
        return self.sagemaker.describe_endpoint(EndpointName=endpoint)

    def settled(self, endpoint: str) -> dict[str, Any]:
        def rests() -> Any:
            found = self.describe(endpoint)
            return found["EndpointStatus"] in ("InService", "Failed") and found

        return until(rests)

    def ask(self, endpoint: str, request: Any = None, **more: Any) -> Any:
        """Invoke the endpoint; return the container's JSON about the request."""
        answer = self.runtime.invoke_endpoint(
            EndpointName=endpoint, Body=json.dumps(request or {}), ContentType="application/json", **more
        )
        return json.loads(answer["Body"].read())


def archive(files: dict[str, str]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return target.getvalue()


def alive(instance: str) -> bool:
    """Return whether a process of the container at this address runs. No two containers share an address."""
    return bool(processes("BIND_HOST", instance))
