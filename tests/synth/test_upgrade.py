"""Upgrades do not replace resources that hold data, have an address or have a physical name.

CloudFormation replaces a resource when its logical id or one of its create-only properties changes. The
resource's data or address is then lost; if it has a physical name, the update fails, because the old resource
still has the name. `kept.json` of an architecture lists, by environment, the resources of deployed stacks.
Add new resources to it, and do not change existing lines.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import architectures

from .conftest import template
from .template import flat

FIXED = {
    "AWS::ApiGatewayV2::Api": ["ProtocolType"],
    "AWS::CloudFront::Distribution": [],
    "AWS::Cognito::UserPool": [],
    "AWS::Cognito::UserPoolClient": ["GenerateSecret", "UserPoolId"],
    "AWS::DynamoDB::Table": ["KeySchema", "TableName"],
    "AWS::KMS::Key": [],
    "AWS::Logs::LogGroup": ["LogGroupName"],
    "AWS::S3::Bucket": ["BucketName"],
    "AWS::SNS::Topic": ["FifoTopic", "TopicName"],
    "AWS::SQS::Queue": ["FifoQueue", "QueueName"],
    "AWS::SSM::Parameter": ["Name"],
    "AWS::SageMaker::Endpoint": ["EndpointName"],
    "AWS::SageMaker::ModelPackageGroup": ["ModelPackageGroupDescription", "ModelPackageGroupName"],
    "AWS::SageMaker::NotebookInstance": ["NotebookInstanceName", "SubnetId"],
    "AWS::SageMaker::Pipeline": ["PipelineName"],
    "AWS::Athena::WorkGroup": ["Name"],
    "AWS::Glue::Database": ["CatalogId", "DatabaseName"],
    "AWS::SecretsManager::Secret": ["Name"],
    "AWS::StepFunctions::StateMachine": ["StateMachineName", "StateMachineType"],
}
"""Create-only properties by type ("Update requires: Replacement" in the CloudFormation reference)."""


def kept(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the resources that must not be replaced: type and create-only properties by logical id."""
    return {
        name: {
            "Type": resource["Type"],
            **{
                key: json.loads(json.dumps(value), object_hook=joined)
                for key, value in resource.get("Properties", {}).items()
                if key in FIXED[resource["Type"]]
            },
        }
        for name, resource in template["Resources"].items()
        if resource["Type"] in FIXED
    }


def joined(value: dict[str, Any]) -> Any:
    return flat(value) if any(key == "Ref" or key.startswith("Fn::") for key in value) else value


@pytest.mark.parametrize("env", ["dev", "prod"])
@pytest.mark.parametrize("name", architectures.BY_NAME)
def test_upgrade_replaces_no_retained_resource(name: str, env: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue("assembly" if env == "dev" else "prod_assembly")
    now = kept(template(folder, name, env))
    before = json.loads((Path(__file__).parent / name / "kept.json").read_text())[env]
    # given the retained resources of an earlier version, then the template has them with the same ids,
    # unchanged
    assert {key: now.get(key) for key in before} == before
    # and the template has no retained resource that `kept.json` lacks
    assert now.keys() == before.keys()
