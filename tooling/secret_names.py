"""A check before a deployment that the names of its new secrets are not in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from boto3.session import Session
from botocore.exceptions import BotoCoreError, ClientError

from tooling.assembly import PreparationError, Stack

ARCHITECTURE = "groundplan:architecture"
OWNER = "aws:cloudformation:stack-name"
"""`ARCHITECTURE` is the key of this project's tag with the architecture; `OWNER` is the key of
CloudFormation's tag with the stack's name."""


class SecretNameError(PreparationError):
    """A secret's name is in use. The message names the stack that would create the secret, and the settings
    to change."""


def check(stacks: Sequence[Stack], profile: str | None = None, region: str | None = None) -> None:
    """Raise `SecretNameError` if a secret that a stack creates exists already and does not belong to that
    stack.

    CloudFormation would fail minutes later. Does nothing if the caller may not describe secrets or stacks.
    """
    try:
        session = Session(profile_name=profile, region_name=region)
    except BotoCoreError:
        return  # the CDK CLI reports the error in the profile
    for stack in stacks:
        for identifier, resource in stack.template.get("Resources", {}).items():
            name = resource.get("Properties", {}).get("Name")
            if resource["Type"] != "AWS::SecretsManager::Secret" or not isinstance(name, str):
                continue
            try:
                found = session.client("secretsmanager").describe_secret(SecretId=name)
                owned = _owns(session, stack.name, identifier, found["ARN"])
            except (BotoCoreError, ClientError):
                continue  # the secret does not exist, or the caller may not read it
            if not owned:
                raise SecretNameError(_sentence(stack.name, resource["Properties"], found))


def _owns(session: Session, stack: str, identifier: str, arn: str) -> bool:
    """Return whether the secret is the stack's resource with that logical id. Raises `ClientError`."""
    try:
        answer = session.client("cloudformation").describe_stack_resource(
            StackName=stack, LogicalResourceId=identifier
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return False  # the stack does not exist, or has no such resource
        raise
    resource = answer["StackResourceDetail"]
    return resource.get("PhysicalResourceId") == arn and not resource["ResourceStatus"].startswith("DELETE_")


def _sentence(stack: str, properties: dict[str, Any], found: Any) -> str:
    owner = _tags(found).get(OWNER)
    whose = f" and belongs to the stack {owner}" if owner else ""
    if found.get("DeletedDate"):
        whose += " (scheduled for deletion)"
    architecture = _tags(properties).get(ARCHITECTURE)
    setting = f"{architecture}." if architecture else ""
    return (
        f"{stack} creates the secret {properties['Name']}, which exists already{whose}: choose another name"
        f' with SET="{setting}secret_name=NAME", or use that secret with SET="{setting}create_secret=false"'
    )


def _tags(of: Any) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in of.get("Tags", ())}
