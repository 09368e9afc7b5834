"""Notebook instances and their lifecycle configurations: records with the service's validation.

No Jupyter server runs for them: notebooks are opened in an editor on this machine, not through the local
cloud.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable
from typing import Any

from local.sagemaker import records
from local.sagemaker.api import Context, invalid, now, operation, page
from local.sagemaker.platform import Platform
from local.sagemaker.quotas import setting
from local.sagemaker.store import Record, Store

INSTANCE, LIFECYCLE = "notebook-instance", "notebook-instance-lifecycle-config"

_instance = records.named(INSTANCE, "NotebookInstanceName")
_lifecycle = records.named(LIFECYCLE, "NotebookInstanceLifecycleConfigName")

# Lifecycle configurations


def _not_lifecycle(context: Context, name: str, verb: str) -> str:
    arn = context.arn(LIFECYCLE, name)
    return (
        f"Unable to {verb} Notebook Instance Lifecycle Config '{arn}'. "
        "(Details: Notebook Instance Lifecycle Config does not exist.)"
    )


def _check_scripts(params: dict[str, Any]) -> None:
    for member in ("OnCreate", "OnStart"):
        scripts = params.get(member) or []
        if len(scripts) > 1:
            raise invalid(f"{member} can have one script only.")
        for script in scripts:
            try:
                base64.b64decode(script.get("Content", ""), validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise invalid(f"The content of {member} is not a base64-encoded script.") from None


@operation("CreateNotebookInstanceLifecycleConfig", _lifecycle)
def create_lifecycle(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    _check_scripts(params)
    name = params["NotebookInstanceLifecycleConfigName"]
    arn = context.arn(LIFECYCLE, name)
    record = {
        "NotebookInstanceLifecycleConfigArn": arn,
        "NotebookInstanceLifecycleConfigName": name,
        "OnCreate": params.get("OnCreate", []),
        "OnStart": params.get("OnStart", []),
        "CreationTime": now(),
        "LastModifiedTime": now(),
    }
    taken = (
        f"Unable to create Notebook Instance Lifecycle Config {arn}. "
        "(Details: Notebook Instance Lifecycle Config already exists.)"
    )
    records.create(context, LIFECYCLE, name, record, params.get("Tags"), taken)
    return {"NotebookInstanceLifecycleConfigArn": arn}


@operation("DescribeNotebookInstanceLifecycleConfig", _lifecycle)
def describe_lifecycle(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    name = params["NotebookInstanceLifecycleConfigName"]
    found = records.find(context, LIFECYCLE, name, _not_lifecycle(context, name, "describe"))
    return found


@operation("ListNotebookInstanceLifecycleConfigs")
def list_lifecycles(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    members = (
        *("NotebookInstanceLifecycleConfigName", "NotebookInstanceLifecycleConfigArn"),
        *("CreationTime", "LastModifiedTime"),
    )
    found = [records.summary(each, *members) for each in context.store.all(LIFECYCLE)]
    return page(params, found, "NotebookInstanceLifecycleConfigs")


@operation("UpdateNotebookInstanceLifecycleConfig", _lifecycle)
def update_lifecycle(context: Context, params: dict[str, Any]) -> None:
    _check_scripts(params)
    name = params["NotebookInstanceLifecycleConfigName"]
    changes = records.summary(params, "OnCreate", "OnStart") | {"LastModifiedTime": now()}
    if context.store.change(LIFECYCLE, name, lambda record: record | changes) is None:
        raise invalid(_not_lifecycle(context, name, "update"))


@operation("DeleteNotebookInstanceLifecycleConfig", _lifecycle)
def delete_lifecycle(context: Context, params: dict[str, Any]) -> None:
    name = params["NotebookInstanceLifecycleConfigName"]
    users = [
        each["NotebookInstanceName"]
        for each in context.store.all(INSTANCE)
        if each.get("NotebookInstanceLifecycleConfigName") == name
    ]
    if users:
        raise invalid(
            f"Unable to delete Notebook Instance Lifecycle Config '{context.arn(LIFECYCLE, name)}'. "
            f"(Details: It is in use by {', '.join(users)}.)"
        )
    records.remove(context, LIFECYCLE, name, _not_lifecycle(context, name, "delete"))


# Instances. Each change has a transitional status, for the time in the setting `notebook_transition`


@operation("CreateNotebookInstance", _instance, roles=("RoleArn",))
def create_instance(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    name = params["NotebookInstanceName"]
    if bool(params.get("SubnetId")) != bool(params.get("SecurityGroupIds")):
        raise invalid("SubnetId and SecurityGroupIds must be given together.")
    if params.get("DirectInternetAccess") == "Disabled" and not params.get("SubnetId"):
        raise invalid("DirectInternetAccess can be Disabled only with a SubnetId.")
    lifecycle = params.get("LifecycleConfigName")
    if lifecycle:
        records.find(context, LIFECYCLE, lifecycle, _not_lifecycle(context, lifecycle, "describe"))
    arn = context.arn(INSTANCE, name)
    given = records.summary(
        params,
        *("NotebookInstanceName", "InstanceType", "IpAddressType", "SubnetId", "RoleArn", "KmsKeyId"),
        *("AcceleratorTypes", "DefaultCodeRepository", "AdditionalCodeRepositories", "PlatformIdentifier"),
        "InstanceMetadataServiceConfiguration",
    )
    record = given | {
        "NotebookInstanceArn": arn,
        "NotebookInstanceStatus": "Pending",
        "Url": f"{name}.notebook.{context.region}.sagemaker.aws",
        "SecurityGroups": params.get("SecurityGroupIds"),
        "NotebookInstanceLifecycleConfigName": lifecycle,
        "DirectInternetAccess": params.get("DirectInternetAccess", "Enabled"),
        "VolumeSizeInGB": params.get("VolumeSizeInGB", 5),
        "RootAccess": params.get("RootAccess", "Enabled"),
        "CreationTime": now(),
        "LastModifiedTime": now(),
    }
    taken = f"Cannot create a duplicate Notebook Instance ({arn})"
    records.create(context, INSTANCE, name, record, params.get("Tags"), taken)
    _later(context, name, "Pending")
    return {"NotebookInstanceArn": arn}


@operation("DescribeNotebookInstance", _instance)
def describe_instance(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    found = records.find(context, INSTANCE, params["NotebookInstanceName"], "RecordNotFound")
    return found


@operation("ListNotebookInstances")
def list_instances(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    members = (
        *("NotebookInstanceName", "NotebookInstanceArn", "NotebookInstanceStatus", "Url", "InstanceType"),
        *("CreationTime", "LastModifiedTime", "NotebookInstanceLifecycleConfigName"),
        *("DefaultCodeRepository", "AdditionalCodeRepositories"),
    )
    lifecycle = params.get("NotebookInstanceLifecycleConfigNameContains", "")
    repository = params.get("DefaultCodeRepositoryContains", "")
    found = [
        records.summary(each, *members)
        for each in context.store.all(INSTANCE)
        if lifecycle in (each.get("NotebookInstanceLifecycleConfigName") or "")
        and repository in (each.get("DefaultCodeRepository") or "")
        and params.get("AdditionalCodeRepositoryEquals")
        in (None, *each.get("AdditionalCodeRepositories", []))
    ]
    return page({"SortOrder": "Ascending"} | params, found, "NotebookInstances", default="Name")


@operation("StartNotebookInstance", _instance)
def start_instance(context: Context, params: dict[str, Any]) -> None:
    _move(context, params["NotebookInstanceName"], ("Stopped", "Failed"), "Pending")
    _later(context, params["NotebookInstanceName"], "Pending")


@operation("StopNotebookInstance", _instance)
def stop_instance(context: Context, params: dict[str, Any]) -> None:
    _move(context, params["NotebookInstanceName"], ("InService",), "Stopping")
    _later(context, params["NotebookInstanceName"], "Stopping")


@operation("UpdateNotebookInstance", _instance, roles=("RoleArn",))
def update_instance(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    name = params["NotebookInstanceName"]
    lifecycle = params.get("LifecycleConfigName")
    if lifecycle:
        records.find(context, LIFECYCLE, lifecycle, _not_lifecycle(context, lifecycle, "describe"))
    changes = records.summary(
        params,
        *("InstanceType", "IpAddressType", "PlatformIdentifier", "RoleArn", "VolumeSizeInGB"),
        *("DefaultCodeRepository", "AdditionalCodeRepositories", "AcceleratorTypes", "RootAccess"),
        "InstanceMetadataServiceConfiguration",
    )
    if lifecycle:
        changes["NotebookInstanceLifecycleConfigName"] = lifecycle
    for flag, member in (
        ("DisassociateLifecycleConfig", "NotebookInstanceLifecycleConfigName"),
        ("DisassociateDefaultCodeRepository", "DefaultCodeRepository"),
        ("DisassociateAdditionalCodeRepositories", "AdditionalCodeRepositories"),
        ("DisassociateAcceleratorTypes", "AcceleratorTypes"),
    ):
        if params.get(flag):
            changes[member] = None

    def edit(record: Record) -> None:
        if changes.get("VolumeSizeInGB", record["VolumeSizeInGB"]) < record["VolumeSizeInGB"]:
            raise invalid("The volume of a notebook instance cannot be made smaller.")
        record |= changes

    _move(context, name, ("Stopped", "Failed"), "Updating", edit)
    _later(context, name, "Updating")
    return {}


@operation("DeleteNotebookInstance", _instance)
def delete_instance(context: Context, params: dict[str, Any]) -> None:
    name = params["NotebookInstanceName"]
    _move(context, name, ("Stopped", "Failed"), "Deleting")
    _later(context, name, "Deleting")


def _move(
    context: Context,
    name: str,
    allowed: tuple[str, ...],
    status: str,
    change: Callable[[Record], None] = lambda record: None,
) -> None:
    """Set the status of an instance and apply `change`. Raises ApiError if its status is not in `allowed`."""

    def edit(record: Record) -> None:
        at = record["NotebookInstanceStatus"]
        if at not in allowed:
            raise invalid(
                f"Status ({at}) not in ([{', '.join(allowed)}]). Unable to transition to ({status}) for "
                f"Notebook Instance ({context.arn(INSTANCE, name)})"
            )
        change(record)
        record |= {"NotebookInstanceStatus": status, "LastModifiedTime": now()}

    if context.store.change(INSTANCE, name, edit) is None:
        raise invalid("RecordNotFound")


_FOLLOWING = {"Pending": "InService", "Stopping": "Stopped", "Updating": "Stopped", "Deleting": None}
"""Transitional statuses and the status that follows each; None: the record is removed."""


def _later(context: Context, name: str, status: str) -> None:
    """Schedule the end of a transitional status."""
    seconds = setting(context.platform, "notebook_transition")
    timer = threading.Timer(seconds, _settle, (context, name, status))
    timer.daemon = True
    timer.start()


def _settle(context: Context, name: str, status: str) -> None:
    def edit(record: Record) -> None:
        if record["NotebookInstanceStatus"] == status:
            record |= {"NotebookInstanceStatus": _FOLLOWING[status] or status, "LastModifiedTime": now()}

    found = context.store.change(INSTANCE, name, edit)
    if found and _FOLLOWING.get(found["NotebookInstanceStatus"], "") is None:
        records.remove(context, INSTANCE, name, "RecordNotFound")


def recover(platform: Platform, store: Store) -> None:
    """End the transitional statuses that the last server left, at the start of a server."""
    for account, region in store.scopes():
        context = Context(platform, store.scoped(account, region))
        for each in context.store.all(INSTANCE):
            if each["NotebookInstanceStatus"] in _FOLLOWING:
                _settle(context, each["NotebookInstanceName"], each["NotebookInstanceStatus"])
