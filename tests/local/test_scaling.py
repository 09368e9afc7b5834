"""Endpoints that scale with their traffic by a policy from a template."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from local.sagemaker import scaling
from tests.support.hosting import CONTAINERS, Bench, unique
from tests.support.waiting import until

DIMENSION = {"ServiceNamespace": "sagemaker", "ScalableDimension": "sagemaker:variant:DesiredInstanceCount"}
FAST = {"scaling_period": 0.5, "endpoint_log_interval": 0.1}
PREDEFINED = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}


def template(resource: str, target_value: float = 3, most: int = 3) -> str:
    tracking = {
        "TargetValue": target_value,
        "PredefinedMetricSpecification": PREDEFINED,
        "ScaleInCooldown": 1,
        "ScaleOutCooldown": 1,
    }
    target = {"ResourceId": resource, "MinCapacity": 1, "MaxCapacity": most} | DIMENSION
    policy = {
        "PolicyName": "by-traffic",
        "PolicyType": "TargetTrackingScaling",
        "ScalingTargetId": {"Ref": "Target"},
        "TargetTrackingScalingPolicyConfiguration": tracking,
    }
    family = "AWS::ApplicationAutoScaling::"
    resources = {
        "Target": {"Type": f"{family}ScalableTarget", "Properties": target},
        "Policy": {"Type": f"{family}ScalingPolicy", "Properties": policy},
    }
    outputs = {
        "Target": {"Value": {"Ref": "Target"}},
        "Id": {"Value": {"Fn::GetAtt": ["Target", "Id"]}},
        "Policy": {"Value": {"Ref": "Policy"}},
        "Arn": {"Value": {"Fn::GetAtt": ["Policy", "Arn"]}},
    }
    return json.dumps({"Resources": resources, "Outputs": outputs})


class Stack:
    def __init__(self, bench: Bench, body: str):
        self.formation, self.name = bench.client("cloudformation"), unique("scaling")
        self.formation.create_stack(StackName=self.name, TemplateBody=body)
        self.settled("CREATE_COMPLETE")

    def settled(self, status: str) -> dict[str, Any]:
        def rests() -> Any:
            (found,) = self.formation.describe_stacks(StackName=self.name)["Stacks"]
            return None if found["StackStatus"].endswith("IN_PROGRESS") else found

        found = until(rests)
        assert found["StackStatus"] == status, self.formation.describe_stack_events(StackName=self.name)
        return {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}

    def update(self, body: str) -> None:
        self.formation.update_stack(StackName=self.name, TemplateBody=body)
        self.settled("UPDATE_COMPLETE")


def instances(bench: Bench, endpoint: str) -> tuple[int, int]:
    """Return the numbers of running and desired instances."""
    (variant,) = bench.describe(endpoint)["ProductionVariants"]
    return variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]


def test_endpoint_scales_with_traffic_within_bounds_across_a_restart(tmp_path: Path) -> None:
    with LocalCloud(tmp_path / "cloud") as cloud:
        cloud.configure(**FAST)
        bench = Bench(cloud)
        endpoint = bench.endpoint(bench.config(model=bench.model()))
        resource = f"endpoint/{endpoint}/variant/AllTraffic"
        # Given a scaling policy from a template, with a target of three requests per instance and period
        stack = Stack(bench, template(resource))
        outputs = stack.settled("CREATE_COMPLETE")
        assert outputs["Target"] == outputs["Id"] == f"{resource}|{DIMENSION['ScalableDimension']}|sagemaker"
        assert outputs["Policy"] == outputs["Arn"]
        assert outputs["Arn"].endswith("policyName/by-traffic")

        # When there are many more requests, then the endpoint scales out to its maximum
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                bench.ask(endpoint)
                time.sleep(0.01)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            until(lambda: instances(bench, endpoint) == (3, 3))
        finally:
            stop.set()
            asking.join()
        # And without requests the endpoint scales in to its minimum, even after a restart of the cloud
        cloud.stop()
        cloud.start()
        bench = Bench.__new__(Bench)
        bench.cloud = cloud
        bench.sagemaker = bench.client("sagemaker")
        until(lambda: instances(bench, endpoint) == (1, 1))

        # And the scaling activities are recorded
        activities = bench.client("application-autoscaling").describe_scaling_activities(
            ServiceNamespace="sagemaker", ResourceId=resource
        )["ScalingActivities"]
        assert activities[0]["Description"] == "Setting desired instance count to 1."
        assert {each["StatusCode"] for each in activities} == {"Successful"}


@pytest.fixture(scope="module")
def bench(cloud: LocalCloud) -> Bench:
    return Bench(cloud, CONTAINERS / "multi_model")


def test_stack_updates_and_deletes_scaling(bench: Bench) -> None:
    endpoint = bench.endpoint(bench.config(model=bench.model(Environment={"CAPACITY": "1"})))
    resource = f"endpoint/{endpoint}/variant/AllTraffic"
    client = bench.client("application-autoscaling")
    stack = Stack(bench, template(resource))

    stack.update(template(resource, target_value=50, most=7))

    (target,) = client.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])[
        "ScalableTargets"
    ]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 7)
    assert "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint" in target["RoleARN"]
    (policy,) = client.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)[
        "ScalingPolicies"
    ]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 50

    stack.formation.delete_stack(StackName=stack.name)
    until(
        lambda: (
            not client.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])[
                "ScalableTargets"
            ]
        )
    )
    assert not client.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)[
        "ScalingPolicies"
    ]


def test_invalid_scaling_request_is_refused_with_the_services_code(bench: Bench, enforced: None) -> None:
    client = bench.client("application-autoscaling")
    nowhere = {"ResourceId": "endpoint/nowhere/variant/AllTraffic"} | DIMENSION

    def code(call: Any, **given: Any) -> str:
        with pytest.raises(ClientError) as refused:
            call(**given)
        return refused.value.response["Error"]["Code"]

    assert code(client.register_scalable_target, **nowhere, MinCapacity=1, MaxCapacity=2) == (
        "ValidationException"
    )
    assert code(client.deregister_scalable_target, **nowhere) == "ObjectNotFoundException"
    tracking = {"TargetValue": 1.0, "PredefinedMetricSpecification": PREDEFINED}
    policy = {"PolicyName": "one", "PolicyType": "TargetTrackingScaling"}
    assert (
        code(
            client.put_scaling_policy,
            **nowhere,
            **policy,
            TargetTrackingScalingPolicyConfiguration=tracking,
        )
        == "ObjectNotFoundException"
    )
    table = {"ServiceNamespace": "dynamodb", "ScalableDimension": "dynamodb:table:ReadCapacityUnits"}
    assert (
        code(client.register_scalable_target, **table, ResourceId="table/one", MinCapacity=1, MaxCapacity=2)
        == "NotImplementedByLocalCloud"
    )
    someone = bench.as_user(
        "application-autoscaling", {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}
    )
    assert code(someone.describe_scalable_targets, ServiceNamespace="sagemaker") == "AccessDeniedException"


@pytest.mark.parametrize(
    ("current", "series", "expected"),
    [
        (1, [30, 30, 30], 3),  # above the target three times in a row
        (2, [11, 11, 11], 3),  # slightly above the target, which adds at least one instance
        (1, [30, 30, 9], 1),  # above the target only twice in a row
        (3, [2] * 15, 1),  # below the target for fifteen periods
        (3, [0] * 15, 0),  # no requests; the calling code raises 0 to the minimum
        (3, [2] * 14, 3),  # below the target for only fourteen periods
        (3, [9.5] * 15, 3),  # below the target by less than a tenth
        (2, [6] * 15, 2),  # below the target, but one instance would be too few
    ],
)
def test_desired_count_follows_the_target_value(current: int, series: list[float], expected: int) -> None:
    assert scaling.wanted(current, 10, series) == expected
