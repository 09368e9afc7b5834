"""The alternative to a notebook instance: a domain whose idle JupyterLab SageMaker stops."""

from __future__ import annotations

import re
from typing import Any

import pytest
from aws_cdk import App, Stack, Validations
from cdk_nag import AwsSolutionsChecks

import groundplan
from tests.support.domains import domain_template, network
from tests.synth.conftest import CONTEXT
from tests.synth.template import flat, listed, of_type, only


def synthesized(**props: Any) -> dict[str, Any]:
    """The template, validated with CloudFormation's schemas and the rules of cdk-nag."""
    app = App(context=CONTEXT)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return domain_template(app, **props)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return synthesized(own_key=True, idle_minutes=90, volume_gb=20, instance_type="ml.m5.large")


def test_domain_is_private_and_leaves_no_file_system(template: dict[str, Any]):
    domain = only(template, "AWS::SageMaker::Domain")["Properties"]
    assert domain["AuthMode"] == "IAM"
    assert domain["AppNetworkAccessType"] == "VpcOnly"
    assert domain["VpcId"] == "vpc-0123abcd"
    assert domain["SubnetIds"] == ["subnet-0123abcd"]
    assert domain["HomeEfsFileSystemCreation"] == "Disabled"
    assert domain["KmsKeyId"]
    settings = domain["DefaultUserSettings"]
    assert settings["SecurityGroups"] == ["sg-0123abcd"]
    assert settings["SharingSettings"] == {"NotebookOutputOption": "Disabled"}
    assert settings["AutoMountHomeEFS"] == "Disabled"


def test_idle_jupyterlab_ends_after_a_time_users_cannot_extend(template: dict[str, Any]):
    settings = only(template, "AWS::SageMaker::Domain")["Properties"]["DefaultUserSettings"]
    idle = settings["JupyterLabAppSettings"]["AppLifecycleManagement"]["IdleSettings"]
    assert idle == {
        "LifecycleManagement": "ENABLED",
        "IdleTimeoutInMinutes": 90,
        "MinIdleTimeoutInMinutes": 60,
        "MaxIdleTimeoutInMinutes": 90,
    }


def test_space_is_private_to_its_owner(template: dict[str, Any]):
    space = only(template, "AWS::SageMaker::Space")["Properties"]
    profile = only(template, "AWS::SageMaker::UserProfile")["Properties"]
    assert space["OwnershipSettings"] == {"OwnerUserProfileName": profile["UserProfileName"]}
    assert space["SpaceSharingSettings"] == {"SharingType": "Private"}
    settings = space["SpaceSettings"]
    assert settings["AppType"] == "JupyterLab"
    assert settings["JupyterLabAppSettings"] == {"DefaultResourceSpec": {"InstanceType": "ml.m5.large"}}
    assert settings["SpaceStorageSettings"] == {"EbsStorageSettings": {"EbsVolumeSizeInGb": 20}}


def granted(template: dict[str, Any]) -> dict[str, list[str]]:
    """Return the resources granted to the notebooks' role, by action."""
    settings = only(template, "AWS::SageMaker::Domain")["Properties"]["DefaultUserSettings"]
    role = settings["ExecutionRole"]["Fn::GetAtt"][0]
    return {
        action: [flat(each) for each in listed(statement["Resource"])]
        for policy in of_type(template, "AWS::IAM::Policy").values()
        if {"Ref": role} in policy["Properties"]["Roles"]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        for action in listed(statement["Action"])
    }


def test_role_reaches_its_own_space_and_experiments_only(template: dict[str, Any]):
    actions = granted(template)
    arn = "arn:<AWS::Partition>:sagemaker:<AWS::Region>:<AWS::AccountId>"
    (domain,) = of_type(template, "AWS::SageMaker::Domain")
    for action in ("CreateApp", "DeleteApp", "DescribeApp"):
        assert actions[f"sagemaker:{action}"] == [f"{arn}:app/<{domain}.DomainId>/trial/JupyterLab/default"]
    assert actions["sagemaker:UpdateSpace"] == [f"{arn}:space/<{domain}.DomainId>/trial"]
    assert actions["sagemaker:CreateTrainingJob"] == [f"{arn}:training-job/trial-notebook-*"]
    assert not {
        action for action in actions if re.match("sagemaker:(Create|Delete)(Domain|User|Space)", action)
    }
    assert {action for action, on in actions.items() if on == ["*"]} == {
        "cloudwatch:PutMetricData",
        *(f"sagemaker:List{kind}" for kind in ("Apps", "Domains", "Spaces", "UserProfiles")),
    }


def test_domain_without_a_key_uses_sagemakers_encryption():
    template = synthesized()
    assert "KmsKeyId" not in only(template, "AWS::SageMaker::Domain")["Properties"]
    assert not [action for action in granted(template) if action.startswith("kms:")]


@pytest.mark.parametrize("minutes", [59, 525_601])
def test_idle_time_that_sagemaker_refuses_is_refused_first(minutes: int):
    with pytest.raises(ValueError, match=f"idle_minutes must be from 60 to 525600, got {minutes}"):
        domain_template(App(), idle_minutes=minutes)


def test_network_without_the_id_of_its_vpc_is_refused():
    stack = Stack(App(), "Stack")
    with pytest.raises(ValueError, match="vpc_id of the network is empty"):
        groundplan.SageMakerDomain(stack, "Domain", name="trial", network=network(stack, vpc_id=""))
