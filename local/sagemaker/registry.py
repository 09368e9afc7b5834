"""The model registry: model package groups, model package versions, their approval, and their events."""

from __future__ import annotations

from typing import Any

from local.sagemaker import records, tags
from local.sagemaker.api import ApiError, Context, invalid, now, operation, page, service_model, shaped
from local.sagemaker.store import Record

GROUP, PACKAGE = "model-package-group", "model-package"


def _plain(name_or_arn: str) -> str:
    """Return the name of a group or package from a name or an ARN: `group`, `group/3` or `name`."""
    return name_or_arn.partition(":model-package")[2].partition("/")[2] or name_or_arn


def _conflict(message: str) -> ApiError:
    return ApiError("ConflictException", message)


# Groups


def _group(context: Context, params: dict[str, Any]) -> str:
    return context.arn(GROUP, _plain(str(params.get("ModelPackageGroupName", ""))))


def find_group(context: Context, name_or_arn: str) -> Record:
    name = _plain(name_or_arn)
    return records.find(context, GROUP, name, f"ModelPackageGroup {context.arn(GROUP, name)} does not exist.")


@operation("CreateModelPackageGroup", _group)
def create_group(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    records.refuse_unbuilt("CreateModelPackageGroup", params, "ManagedConfiguration")
    name = params["ModelPackageGroupName"]
    arn = context.arn(GROUP, name)
    record = records.summary(params, "ModelPackageGroupName", "ModelPackageGroupDescription") | {
        "ModelPackageGroupArn": arn,
        "CreationTime": now(),
        "CreatedBy": {},
        "ModelPackageGroupStatus": "Completed",
        "_LastVersion": 0,
    }
    taken = f"Model Package Group already exists: {arn}"
    records.create(context, GROUP, name, record, params.get("Tags"), taken)
    return {"ModelPackageGroupArn": arn}


@operation("DescribeModelPackageGroup", _group)
def describe_group(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return find_group(context, params["ModelPackageGroupName"])


@operation("ListModelPackageGroups")
def list_groups(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    members = (
        *("ModelPackageGroupName", "ModelPackageGroupArn", "ModelPackageGroupDescription", "CreationTime"),
        "ModelPackageGroupStatus",
    )
    found = [records.summary(each, *members) for each in context.store.all(GROUP)]
    return page({"SortOrder": "Ascending"} | params, found, "ModelPackageGroupSummaryList")


@operation("DeleteModelPackageGroup", _group)
def delete_group(context: Context, params: dict[str, Any]) -> None:
    group = find_group(context, params["ModelPackageGroupName"])
    name, arn = group["ModelPackageGroupName"], group["ModelPackageGroupArn"]
    inside = sum(each.get("ModelPackageGroupName") == name for each in context.store.all(PACKAGE))
    if inside:
        raise _conflict(f"Model Package Group {arn} cannot be deleted: it contains {inside} model packages.")
    records.remove(context, GROUP, name, f"ModelPackageGroup {arn} does not exist.")


# Packages


def _package(context: Context, params: dict[str, Any]) -> str:
    named = params.get("ModelPackageArn") or params.get("ModelPackageName", "")
    return context.arn(PACKAGE, _plain(str(named)))


def _new_package(context: Context, params: dict[str, Any]) -> list[str]:
    """Return the ARNs to authorize. For a version these are the ARNs of the new package and of its group.

    On AWS, a grant on one of these is enough. Here both are required, so that a policy works whichever ARN
    AWS checks."""
    if not params.get("ModelPackageGroupName"):
        return [_package(context, params)]
    group = _plain(str(params["ModelPackageGroupName"]))
    version = (context.store.get(GROUP, group) or {"_LastVersion": 0})["_LastVersion"] + 1
    return [context.arn(PACKAGE, f"{group}/{version}"), context.arn(GROUP, group)]


def find_package(context: Context, name_or_arn: str) -> Record:
    """Return the record of a package, given its name, `group/version` or ARN. Raises ApiError."""
    name = _plain(name_or_arn)
    missing = f"ModelPackage {context.arn(PACKAGE, name)} does not exist."
    return records.find(context, PACKAGE, name, missing)


_UNBUILT = ("SourceAlgorithmSpecification", "ValidationSpecification", "ManagedStorageType")


@operation("CreateModelPackage", _new_package)
def create_package(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    records.refuse_unbuilt("CreateModelPackage", params, *_UNBUILT)
    name, in_group = params.get("ModelPackageName"), params.get("ModelPackageGroupName")
    if name and in_group:
        raise invalid(
            "Both ModelPackageName and ModelPackageGroupName are provided in the input. "
            "Cannot determine which one to use."
        )
    if not name and not in_group:
        raise invalid("Missing ARN.")
    _check_inference(params, versioned=bool(in_group))
    token = params.get("ClientToken")
    for each in context.store.all(PACKAGE):
        if token and each.get("_ClientToken") == token:  # a repeated request
            return {"ModelPackageArn": each["ModelPackageArn"]}

    record: Record = {key: value for key, value in params.items() if key not in ("Tags", "ClientToken")}
    if in_group:
        if params.get("Tags"):
            raise invalid("A model package in a group has the group's tags: Tags cannot be given.")
        if params.get("CertifyForMarketplace"):
            raise invalid("A model package in a group cannot be certified for the Marketplace.")
        group = find_group(context, in_group)["ModelPackageGroupName"]
        version = _next_version(context, group)
        name = f"{group}/{version}"
        record |= {"ModelPackageGroupName": group, "ModelPackageVersion": version}
        record.setdefault("ModelApprovalStatus", "PendingManualApproval")
    elif params.get("ModelApprovalStatus"):
        raise invalid("ModelApprovalStatus is only for model packages in a group.")
    arn = context.arn(PACKAGE, str(name))
    record |= {
        "ModelPackageArn": arn,
        "CreationTime": now(),
        "CreatedBy": {},
        "CertifyForMarketplace": params.get("CertifyForMarketplace", False),
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "_ClientToken": token,
    }
    taken = f"Model Package already exists: {arn}"
    records.create(context, PACKAGE, str(name), record, params.get("Tags"), taken)
    _announce(context, record)
    return {"ModelPackageArn": arn}


def _next_version(context: Context, group: str) -> int:
    def count(record: Record) -> None:
        record["_LastVersion"] += 1

    changed = context.store.change(GROUP, group, count)
    if changed is None:  # deleted meanwhile
        raise invalid(f"ModelPackageGroup {context.arn(GROUP, group)} does not exist.")
    return changed["_LastVersion"]


def _check_inference(params: dict[str, Any], versioned: bool) -> None:
    specification = params.get("InferenceSpecification")
    if not versioned:
        if not specification:
            raise invalid("InferenceSpecification is required for a model package outside of a group.")
        for member in (
            *("SupportedContentTypes", "SupportedResponseMIMETypes"),
            *("SupportedTransformInstanceTypes", "SupportedRealtimeInferenceInstanceTypes"),
        ):
            if not specification.get(member):
                raise invalid(
                    f"InferenceSpecification.{member} is required for a model package outside of a group."
                )
    others = params.get("AdditionalInferenceSpecifications", [])
    if len({each["Name"] for each in others}) < len(others):
        raise invalid("The names of AdditionalInferenceSpecifications must differ from each other.")
    for each in [*([specification] if specification else []), *others]:
        for container in each["Containers"]:
            if not container.get("Image"):
                raise invalid("Every container of an inference specification needs an Image.")
            if container.get("ModelDataUrl") and container.get("ModelDataSource"):
                raise invalid("Only one of ModelDataUrl and ModelDataSource can be given.")


@operation("DescribeModelPackage", _package)
def describe_package(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return find_package(context, params["ModelPackageName"])


_SUMMARY = (
    *("ModelPackageName", "ModelPackageGroupName", "ModelPackageVersion", "ModelPackageArn"),
    *("ModelPackageDescription", "CreationTime", "ModelPackageStatus", "ModelApprovalStatus"),
    *("ModelLifeCycle", "ModelPackageRegistrationType"),
)


@operation("ListModelPackages")
def list_packages(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    group = _plain(params.get("ModelPackageGroupName", ""))
    if group:
        find_group(context, group)
    kind = "Versioned" if group else params.get("ModelPackageType", "Unversioned")
    order = params.get("SortOrder", "Ascending")
    found = [
        records.summary(each, *_SUMMARY)
        for each in context.store.all(PACKAGE)
        if (not group or each.get("ModelPackageGroupName") == group)
        and kind in ("Both", "Versioned" if "ModelPackageVersion" in each else "Unversioned")
        and params.get("ModelApprovalStatus") in (None, each.get("ModelApprovalStatus"))
        and params.get("NameContains", "").lower() in _plain(each["ModelPackageArn"]).lower()
    ]
    # Sort by version first, for versions that were created at the same clock time
    found.sort(key=lambda each: each.get("ModelPackageVersion", 0), reverse=order == "Descending")
    by = "ModelPackageArn" if params.get("SortBy") == "Name" else "CreationTime"
    rest = {key: value for key, value in params.items() if key != "NameContains"}
    return page(rest | {"SortBy": by, "SortOrder": order}, found, "ModelPackageSummaryList")


_REPLACED = (
    *("ModelApprovalStatus", "ApprovalDescription", "InferenceSpecification", "SourceUri"),
    *("ModelCard", "ModelLifeCycle", "ModelPackageRegistrationType"),
)


@operation("UpdateModelPackage", _package)
def update_package(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    package = find_package(context, params["ModelPackageArn"])
    if params.get("ModelApprovalStatus") and "ModelPackageVersion" not in package:
        raise invalid("ModelApprovalStatus is only for model packages in a group.")
    _check_inference(params, versioned=True)

    def edit(record: Record) -> None:
        record |= records.summary(params, *_REPLACED)
        properties = record.get("CustomerMetadataProperties", {}) | params.get(
            "CustomerMetadataProperties", {}
        )
        for key in params.get("CustomerMetadataPropertiesToRemove", []):
            properties.pop(key, None)
        if properties or "CustomerMetadataProperties" in record:
            record["CustomerMetadataProperties"] = properties
        if params.get("AdditionalInferenceSpecificationsToAdd"):
            record["AdditionalInferenceSpecifications"] = [
                *record.get("AdditionalInferenceSpecifications", []),
                *params["AdditionalInferenceSpecificationsToAdd"],
            ]
        record["LastModifiedTime"] = now()
        record["LastModifiedBy"] = {}

    arn = package["ModelPackageArn"]
    changed = context.store.change(PACKAGE, _plain(arn), edit)
    if changed is None:
        raise invalid(f"ModelPackage {arn} does not exist.")
    _announce(context, changed)
    return {"ModelPackageArn": arn}


@operation("DeleteModelPackage", _package)
def delete_package(context: Context, params: dict[str, Any]) -> None:
    package = find_package(context, params["ModelPackageName"])
    arn = package["ModelPackageArn"]
    records.remove(context, PACKAGE, _plain(arn), f"ModelPackage {arn} does not exist.")


def _announce(context: Context, package: Record) -> None:
    detail = shaped(service_model().operation_model("DescribeModelPackage").output_shape, package)
    for member in ("CreatedBy", "LastModifiedBy"):
        detail.pop(member, None)
    for member in ("CreationTime", "LastModifiedTime"):
        if member in detail:
            detail[member] = int(detail[member] * 1000)
    detail["Tags"] = {
        tag["Key"]: tag["Value"] for tag in tags.attached(context.store, package["ModelPackageArn"])
    }
    context.platform.publish(
        context.account,
        context.region,
        "SageMaker Model Package State Change",
        detail,
        package["ModelPackageArn"],
    )
