"""Application Auto Scaling: its API and its CloudFormation types, which MiniStack does not have."""

from __future__ import annotations

from collections.abc import Callable

from local.emulator import cloudformation as cfn
from local.emulator.ministack import here
from local.emulator.reach import Cloud, hook, put, touch
from local.sagemaker import scaling
from local.sagemaker.api import ApiError
from local.sagemaker.http import SCALING


@hook
def scaling_service(cloud: Cloud) -> None:
    """MiniStack has neither the API of Application Auto Scaling nor its CloudFormation types."""
    touch("services.cloudwatch._metrics")  # the metrics of scaling policies
    provisioners = "services.cloudformation.provisioners"
    put("app.SERVICE_HANDLERS", scaling.SERVICE, value=touch("app.SERVICE_HANDLERS")["sagemaker"])
    put("core.router.SERVICE_PATTERNS", scaling.SERVICE, value={"target_prefixes": [f"{SCALING}."]})
    place = ("ResourceId", "ScalableDimension", "ServiceNamespace")

    def kind(name: str, shape: str, create: Callable, delete: Callable, *replaced: str) -> None:
        def settle(properties: dict) -> tuple:
            given = dict(properties)
            reference = given.pop("ScalingTargetId", None)
            if "Tags" in given:  # a list in templates, a map in the API
                given["Tags"] = {tag["Key"]: tag["Value"] for tag in given["Tags"]}
            given = cfn.coerced_like(scaling.SERVICE, shape, given)
            given |= {"ScalingTargetId": reference} if reference else {}
            try:
                return create(cloud.context(*here(), None), given)
            except ApiError as error:
                raise ValueError(f"{error.message} (Error Code: {error.code})") from error

        handlers = {
            "create": lambda logical_id, properties, stack: settle(properties),
            "update": lambda ref, old, new, stack: settle(new),
            "delete": lambda ref, properties: delete(cloud.context(*here(), None), ref),
        }
        put(f"{provisioners}._RESOURCE_HANDLERS", name, value=handlers)
        put(f"{provisioners}._REPLACING_PROPERTIES", name, value=(*place, *replaced))

    family = "AWS::ApplicationAutoScaling::"
    target = (scaling.create_target, scaling.delete_target)
    policy = (scaling.create_policy, scaling.delete_policy)
    kind(f"{family}ScalableTarget", "RegisterScalableTargetRequest", *target)
    kind(f"{family}ScalingPolicy", "PutScalingPolicyRequest", *policy, "PolicyName", "ScalingTargetId")
