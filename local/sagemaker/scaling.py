"""Application Auto Scaling of endpoint variants: its operations, and the evaluation of its policies.

Target tracking evaluates its metric like AWS's pair of alarms: after three consecutive periods above the
target it adds instances, and after fifteen below 90 % of the target it removes instances. A period is
`scaling_period` seconds.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from typing import Any

from local.sagemaker import api
from local.sagemaker.api import NOT_BUILT, ApiError, Context, invalid, now, service_model, shaped, validate
from local.sagemaker.quotas import setting
from local.sagemaker.store import Record, Store

SERVICE = "application-autoscaling"
TARGET, POLICY = "scalable-target", "scaling-policy"
NAMESPACE, DIMENSION = "sagemaker", "sagemaker:variant:DesiredInstanceCount"
METRIC = "SageMakerVariantInvocationsPerInstance"
OUT_PERIODS, IN_PERIODS, IN_SHARE = 3, 15, 0.9
COOLDOWN = 300
"""Default cooldown in seconds: minimum time between two changes."""
_RESOURCE = re.compile(r"endpoint/([^/]+)/variant/([^/]+)")

Lookup = Callable[[dict[str, Any], str, float, int], list[float | None]]
"""`(metric, statistic, period, periods)`: returns a metric's values per period, the latest first."""

logger = logging.getLogger(__name__)


def call(context: Context, name: str, params: dict[str, Any]) -> dict[str, Any]:
    """Execute an operation and return its response.

    Raises `ApiError` with AWS's error code, or with `NOT_BUILT` for what the local cloud does not have.
    """
    if name not in service_model(SERVICE).operation_names:
        raise ApiError("UnknownOperationException", f"Application Auto Scaling has no operation {name}", 404)
    handler = OPERATIONS.get(name)
    if handler is None:
        raise ApiError(NOT_BUILT, f"{SERVICE}:{name} is not implemented in the local cloud", 501)
    model = service_model(SERVICE).operation_model(name)
    validate(model.input_shape, params)
    if context.access_key is not None:
        context.platform.authorize(
            context.account, context.region, context.access_key, f"{SERVICE}:{name}", "*"
        )
    return shaped(model.output_shape, handler(context, params) or {})


def _id(params: dict[str, Any]) -> str:
    """Return a scalable target's name in the store, which is also its Ref in CloudFormation templates."""
    return f"{params['ResourceId']}|{params['ScalableDimension']}|{params['ServiceNamespace']}"


def _variant(params: dict[str, Any]) -> tuple[str, str]:
    found = _RESOURCE.fullmatch(params["ResourceId"])
    if params["ServiceNamespace"] != NAMESPACE or params["ScalableDimension"] != DIMENSION or not found:
        raise ApiError(
            NOT_BUILT,
            f"{SERVICE} of {params['ScalableDimension']} on {params['ResourceId']} is not implemented in the "
            f"local cloud; only {DIMENSION} on endpoint/NAME/variant/NAME is",
            501,
        )
    return found[1], found[2]


def _register(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    endpoint, variant = _variant(params)
    if _instances(context, endpoint, variant) is None:
        raise invalid(f"The endpoint {endpoint} has no variant {variant} with instances.")
    name, arn = _id(params), f"arn:aws:{SERVICE}:{context.region}:{context.account}:scalable-target/"
    role = "aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
    role += "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    fresh = {
        "CreationTime": now(),
        "RoleARN": f"arn:aws:iam::{context.account}:role/{role}",
        "ScalableTargetARN": arn + re.sub(r"\W+", "-", name),
    }
    record = fresh | (context.store.get(TARGET, name) or {}) | params
    if "MinCapacity" not in record or "MaxCapacity" not in record:
        raise invalid("A new scalable target needs MinCapacity and MaxCapacity.")
    if record["MinCapacity"] > record["MaxCapacity"]:
        raise invalid("Maximum capacity cannot be less than minimum capacity.")
    if not context.store.add(TARGET, name, record):
        context.store.change(TARGET, name, lambda _: record)
    return {"ScalableTargetARN": record["ScalableTargetARN"]}


def _deregister(context: Context, params: dict[str, Any]) -> None:
    if not context.store.remove(TARGET, _id(params)):
        raise _absent("scalable target", params)
    for policy in list(context.store.all(POLICY)):
        if _id(policy) == _id(params):
            context.store.remove(POLICY, _policy(policy))


def _absent(what: str, params: dict[str, Any]) -> ApiError:
    return ApiError(
        "ObjectNotFoundException",
        f"No {what} found for service namespace: {params['ServiceNamespace']}, resource ID: "
        f"{params['ResourceId']}, scalable dimension: {params['ScalableDimension']}",
    )


def _policy(params: dict[str, Any]) -> str:
    return f"{_id(params)}|{params['PolicyName']}"


def _put_policy(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    if context.store.get(TARGET, _id(params)) is None:
        raise _absent("scalable target", params)
    given = params.get("TargetTrackingScalingPolicyConfiguration")
    if params.get("PolicyType", "TargetTrackingScaling") != "TargetTrackingScaling" or not given:
        raise ApiError(
            NOT_BUILT,
            f"{SERVICE}:PutScalingPolicy without TargetTrackingScaling is not implemented in the local cloud",
            501,
        )
    _metric(params | {"TargetTrackingScalingPolicyConfiguration": given})
    name = _policy(params)
    arn = f"arn:aws:autoscaling:{context.region}:{context.account}:scalingPolicy:"
    fresh = {
        "CreationTime": now(),
        "PolicyType": "TargetTrackingScaling",
        "PolicyARN": f"{arn}resource/{params['ServiceNamespace']}/{params['ResourceId']}:"
        f"policyName/{params['PolicyName']}",
        "Alarms": [],
    }
    record = fresh | (context.store.get(POLICY, name) or {}) | params
    if not context.store.add(POLICY, name, record):
        context.store.change(POLICY, name, lambda _: record)
    return {"PolicyARN": record["PolicyARN"], "Alarms": []}


def _delete_policy(context: Context, params: dict[str, Any]) -> None:
    if not context.store.remove(POLICY, _policy(params)):
        raise _absent("scaling policy", params)


def _fits(record: Record, params: dict[str, Any]) -> bool:
    wanted = params.get("ResourceIds") or ([params["ResourceId"]] if "ResourceId" in params else None)
    names = params.get("PolicyNames")
    return (
        (wanted is None or record["ResourceId"] in wanted)
        and (names is None or record.get("PolicyName") in names)
        and record["ServiceNamespace"] == params["ServiceNamespace"]
        and params.get("ScalableDimension") in (None, record["ScalableDimension"])
    )


def _describe_targets(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return {"ScalableTargets": [each for each in context.store.all(TARGET) if _fits(each, params)]}


def _describe_policies(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return {"ScalingPolicies": [each for each in context.store.all(POLICY) if _fits(each, params)]}


def _describe_activities(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    found = [each for each in context.store.all(TARGET) if _fits(each, params)]
    activities = [activity for each in found for activity in each.get("_Activities", [])]
    return {"ScalingActivities": sorted(activities, key=lambda activity: activity["StartTime"], reverse=True)}


OPERATIONS: dict[str, Callable[[Context, dict[str, Any]], dict[str, Any] | None]] = {
    "RegisterScalableTarget": _register,
    "DeregisterScalableTarget": _deregister,
    "PutScalingPolicy": _put_policy,
    "DeleteScalingPolicy": _delete_policy,
    "DescribeScalableTargets": _describe_targets,
    "DescribeScalingPolicies": _describe_policies,
    "DescribeScalingActivities": _describe_activities,
}


# Evaluation of policies


def _metric(policy: Record) -> tuple[dict[str, Any], str]:
    """Return the metric that a policy tracks, and its statistic. Raises ApiError."""
    config = policy["TargetTrackingScalingPolicyConfiguration"]
    endpoint, variant = _variant(policy)
    if custom := config.get("CustomizedMetricSpecification"):
        if custom.get("Metrics") or not custom.get("Statistic"):
            raise invalid("CustomizedMetricSpecification needs a MetricName and a Statistic here.")
        return {name: custom.get(name) for name in ("Namespace", "MetricName", "Dimensions")}, custom[
            "Statistic"
        ]
    kind = config.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
    if kind != METRIC:
        raise ApiError(NOT_BUILT, f"scaling by the metric {kind} is not implemented in the local cloud", 501)
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
    named = {"Namespace": "AWS/SageMaker", "MetricName": "InvocationsPerInstance", "Dimensions": dimensions}
    return named, "Sum"


def wanted(current: int, target: float, series: list[float]) -> int:
    """Return the number of instances that a policy requests.

    :param series: the metric's last periods, the latest first
    """
    needed = math.ceil(current * series[0] / target)
    if all(value > target for value in series[:OUT_PERIODS]):
        return max(current + 1, needed)
    if len(series) >= IN_PERIODS and all(value < IN_SHARE * target for value in series[:IN_PERIODS]):
        return min(current, needed)
    return current


def act(context: Context, lookup: Lookup) -> None:
    """Evaluate each policy of this account and Region once, and change instance counts accordingly."""
    for policy in list(context.store.all(POLICY)):
        try:
            _act(context, policy, lookup)
        except ApiError as error:  # the endpoint is being changed, or was deleted
            logger.info("Could not scale %s: %s", policy["ResourceId"], error.message)


def _act(context: Context, policy: Record, lookup: Lookup) -> None:
    target = context.store.get(TARGET, _id(policy))
    endpoint, variant = _variant(policy)
    current = _instances(context, endpoint, variant)
    if target is None or current is None:
        return
    config, period = (
        policy["TargetTrackingScalingPolicyConfiguration"],
        setting(context.platform, "scaling_period"),
    )
    metric, statistic = _metric(policy)
    # Without traffic, SageMaker reports zero. Values from before the policy or the last change do not
    # describe the present number of instances.
    since = max(policy["CreationTime"], target.get("_Changed", 0.0))
    known = int(min(IN_PERIODS, elapsed(since) // period))
    if known < OUT_PERIODS:
        return
    series = [value or 0.0 for value in lookup(metric, statistic, period, known)]
    count = wanted(current, config["TargetValue"], series)
    count = min(max(count, target["MinCapacity"]), target["MaxCapacity"])
    suspended = target.get("SuspendedState", {})
    if count > current:
        kept, pause = suspended.get("DynamicScalingOutSuspended"), config.get("ScaleOutCooldown", COOLDOWN)
    else:
        kept = suspended.get("DynamicScalingInSuspended") or config.get("DisableScaleIn")
        pause = config.get("ScaleInCooldown", COOLDOWN)
    if count == current or kept or elapsed(target.get("_Changed", 0.0)) < pause:
        return
    change = {"VariantName": variant, "DesiredInstanceCount": count}
    request = {"EndpointName": endpoint, "DesiredWeightsAndCapacities": [change]}
    api.call(context, "UpdateEndpointWeightsAndCapacities", request)
    _remember(context, policy, current, count)


def elapsed(since: float) -> float:
    """Return the seconds since a time; infinity for a future time (the clock was set back)."""
    seconds = now() - since
    return seconds if seconds >= 0 else float("inf")


def _remember(context: Context, policy: Record, before: int, count: int) -> None:
    moment = now()
    activity = {
        "ActivityId": f"{moment:.3f}",
        "ServiceNamespace": policy["ServiceNamespace"],
        "ResourceId": policy["ResourceId"],
        "ScalableDimension": policy["ScalableDimension"],
        "Description": f"Setting desired instance count to {count}.",
        "Cause": f"policy {policy['PolicyName']} at {before} instances",
        "StartTime": moment,
        "EndTime": moment,
        "StatusCode": "Successful",
    }

    def edit(target: Record) -> None:
        target["_Changed"] = moment
        target["_Activities"] = [*target.get("_Activities", [])[-49:], activity]

    context.store.change(TARGET, _id(policy), edit)


def _instances(context: Context, endpoint: str, variant: str) -> int | None:
    """Return the desired instance count of a variant; None if it does not exist or is serverless."""
    record = context.store.get("endpoint", endpoint) or {}
    for spec in record.get("_Variants", []):
        if spec["VariantName"] == variant:
            return spec.get("InitialInstanceCount")
    return None


def act_everywhere(platform: Any, store: Store, lookup: Callable[[str, str], Lookup]) -> None:
    """Evaluate the policies of all accounts and Regions.

    :param lookup: `(account, region)`: returns the function that reads the metrics there
    """
    for account, region in store.scopes():
        act(Context(platform, store.scoped(account, region)), lookup(account, region))


# CloudFormation resources


def create_target(context: Context, properties: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Create or change a scalable target. Return its Ref and attributes."""
    call(context, "RegisterScalableTarget", properties)
    return _id(properties), {"Id": _id(properties)}


def delete_target(context: Context, ref: str) -> None:
    _gone(context, "DeregisterScalableTarget", _place(ref))


def create_policy(context: Context, properties: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    request = dict(properties)
    if ref := request.pop("ScalingTargetId", None):
        request |= _place(ref)
    arn = call(context, "PutScalingPolicy", request)["PolicyARN"]
    return arn, {"Arn": arn}


def delete_policy(context: Context, ref: str) -> None:
    for policy in list(context.store.all(POLICY)):
        if policy["PolicyARN"] == ref:
            context.store.remove(POLICY, _policy(policy))


def _place(ref: str) -> dict[str, str]:
    resource, dimension, namespace = ref.split("|")
    return {"ResourceId": resource, "ScalableDimension": dimension, "ServiceNamespace": namespace}


def _gone(context: Context, operation: str, params: dict[str, Any]) -> None:
    try:
        call(context, operation, params)
    except ApiError as error:
        if error.code != "ObjectNotFoundException":
            raise
