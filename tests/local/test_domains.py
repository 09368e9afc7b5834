"""The template of the construct `SageMakerDomain` in the local cloud: a domain is created, updated and
deleted with its stack."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aws_cdk import App
from botocore.exceptions import ClientError

from tests.support.domains import domain_template


def test_stack_creates_updates_and_deletes_a_domain(aws: Callable[..., Any]) -> None:
    formation, sagemaker = aws("cloudformation"), aws("sagemaker")

    def deploy(act: Callable[..., Any], done: str, **props: Any) -> dict[str, str]:
        body = json.dumps(domain_template(App(), **props))
        act(StackName="domain", TemplateBody=body, Capabilities=["CAPABILITY_IAM"])
        formation.get_waiter(done).wait(StackName="domain", WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        (stack,) = formation.describe_stacks(StackName="domain")["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    # given a stack with a domain
    outputs = deploy(formation.create_stack, "stack_create_complete", idle_minutes=60)
    domain = sagemaker.describe_domain(DomainId=outputs["DomainId"])
    assert outputs["Url"] == domain["Url"]
    assert sagemaker.describe_space(DomainId=domain["DomainId"], SpaceName="trial")["Status"] == "InService"
    # when the stack is updated with another idle time
    again = deploy(formation.update_stack, "stack_update_complete", idle_minutes=90)
    # then the same domain has the new idle time
    assert again == outputs
    settings = sagemaker.describe_domain(DomainId=outputs["DomainId"])["DefaultUserSettings"]
    lab = settings["JupyterLabAppSettings"]["AppLifecycleManagement"]
    assert lab["IdleSettings"]["IdleTimeoutInMinutes"] == 90
    # and after the stack is deleted, no domain is left
    formation.delete_stack(StackName="domain")
    waiter = formation.get_waiter("stack_delete_complete")
    waiter.wait(StackName="domain", WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    with pytest.raises(ClientError, match="ResourceNotFound"):
        sagemaker.describe_domain(DomainId=outputs["DomainId"])
    assert sagemaker.list_domains()["Domains"] == []
