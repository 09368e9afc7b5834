"""A deployment is refused before it starts if a secret's name is taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.cloud import LocalCloud
from tests.support.clouds import own_keys
from tooling import secret_names
from tooling.assembly import Stack

NAME = "kept-for-one-stack"


def template(name: Any = NAME) -> dict[str, Any]:
    tags = [{"Key": "groundplan:architecture", "Value": "an_architecture"}]
    secret = {"Type": "AWS::SecretsManager::Secret", "Properties": {"Name": name, "Tags": tags}}
    return {"Resources": {"Credentials": secret}}


def check(stack: str, name: Any = NAME) -> None:
    secret_names.check([Stack(stack, template(name), ())])


@pytest.fixture(autouse=True)
def keys(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", cloud.region)
    for name, value in own_keys(cloud).items():
        monkeypatch.setenv(name.upper(), value)


@pytest.fixture
def first(aws: Callable[..., Any]) -> Iterator[str]:
    """A deployed stack that owns the secret."""
    cloudformation = aws("cloudformation")
    cloudformation.create_stack(StackName="first", TemplateBody=json.dumps(template()))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="first", WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    yield "first"
    cloudformation.delete_stack(StackName="first")
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName="first", WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )


def test_second_stack_is_refused_when_the_secret_name_is_taken(first: str):
    with pytest.raises(secret_names.SecretNameError) as caught:
        check("second")
    message = str(caught.value)
    assert message.startswith(f"second creates the secret {NAME}, which exists already")
    assert 'SET="an_architecture.secret_name=NAME"' in message
    assert 'SET="an_architecture.create_secret=false"' in message


def test_stack_that_owns_the_secret_is_deployed_again(first: str):
    check(first)


def test_first_deployment_passes_when_the_name_is_free():
    check("first", "a-free-name")
    check("first", {"Ref": "Parameter"})


def test_existing_secret_stops_the_deployment_until_it_is_shared(aws: Callable[..., Any]):
    aws("secretsmanager").create_secret(Name="a-persons", SecretString="hidden")
    with pytest.raises(secret_names.SecretNameError, match="a-persons, which exists already: choose"):
        check("first", "a-persons")
    secret_names.check([Stack("first", {"Resources": {}}, ())])
    aws("secretsmanager").delete_secret(SecretId="a-persons", ForceDeleteWithoutRecovery=True)


def test_stack_is_refused_another_secrets_name_for_its_own(first: str, aws: Callable[..., Any]):
    # given a stack with a secret, and another secret
    aws("secretsmanager").create_secret(Name="another", SecretString="hidden")
    # when an update would rename the stack's secret to the name of the other secret, then the update is
    # refused
    with pytest.raises(secret_names.SecretNameError, match="another, which exists already"):
        check(first, "another")
    aws("secretsmanager").delete_secret(SecretId="another", ForceDeleteWithoutRecovery=True)


def test_name_of_a_secret_scheduled_for_deletion_is_taken(aws: Callable[..., Any]):
    # given a secret in its recovery window
    aws("secretsmanager").create_secret(Name="going", SecretString="hidden")
    aws("secretsmanager").delete_secret(SecretId="going", RecoveryWindowInDays=7)
    # then the error says that the secret is scheduled for deletion
    with pytest.raises(secret_names.SecretNameError, match=r"exists already \(scheduled for deletion\)"):
        check("first", "going")
    aws("secretsmanager").delete_secret(SecretId="going", ForceDeleteWithoutRecovery=True)


def test_check_passes_when_the_caller_may_not_read_secrets(
    first: str, enforced: None, aws: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    # given a user without any policy
    iam = aws("iam")
    iam.create_user(UserName="narrow")
    key = iam.create_access_key(UserName="narrow")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])

    # when, then
    check("second")
