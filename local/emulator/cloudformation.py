"""SageMaker's CloudFormation types: create, update and delete through the local SageMaker's API."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.model import ListShape, MapShape, StructureShape

from local.sagemaker import api, tags
from local.sagemaker.api import ApiError

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Function `(operation, params)` that calls SageMaker in the stack's account and Region, without IAM
checks."""

POLL_SECONDS = 0.1
GONE = ("ValidationException", "ResourceNotFound", "ResourceNotFoundException")
"""Error codes of Describe operations for a resource that does not exist."""


@dataclass(frozen=True)
class Type:
    """One resource type. `Ref` of a resource returns its ARN, as in the CloudFormation reference."""

    kind: str
    """Name of the type in SageMaker's operations, such as `Model` in CreateModel and DescribeModel"""
    replacing: tuple[str, ...] = ()
    """Properties whose change replaces the resource, including the name"""
    name: str = ""
    """Property with the resource's name; if empty, `<kind>Name`"""
    name_length: int = 63
    attributes: tuple[str, ...] = ()
    """Attributes that `Fn::GetAtt` can return in addition to the name"""
    settles: tuple[str, ...] = ()
    """Final statuses of a successful change; empty if the type has no status to wait for"""
    fails: tuple[str, ...] = ("Failed",)
    apart: tuple[str, ...] = ()
    """Properties that separate operations set, because the Create operation does not have them"""
    updates: Callable[[Call, str, dict[str, Any], dict[str, Any]], None] | None = field(default=None)
    """Function `(call, name, old properties, new properties)` that updates the resource in place"""

    @property
    def named_by(self) -> str:
        return self.name or f"{self.kind}Name"

    @property
    def arn(self) -> str:
        return f"{self.kind}Arn"

    @property
    def status(self) -> str:
        return f"{self.kind}Status"

    @property
    def records(self) -> str:
        """Kind of the type's records in the store, and resource type in ARNs, such as `endpoint-config`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.kind).lower()

    def name_of(self, ref: str) -> str:
        """Return the name that Describe and Delete operations need, from a resource's `Ref`."""
        return ref.rpartition("/")[2]

    def identity(self, context: api.Context, record: dict[str, Any]) -> tuple[str, str, str]:
        """Return the name that `delete` needs, the `Ref`, and the ARN of the resource in a record."""
        name = record[self.named_by]
        arn = context.arn(self.records, name)
        return name, arn, arn

    # CloudFormation's operations on a resource

    def create(self, call: Call, name: str, properties: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Create the resource and wait until it is ready. Return its Ref and attributes.

        Raises ApiError if SageMaker refuses an operation, and ValueError if the resource's status becomes a
        failed one. A resource that was created before the error is deleted."""
        given = {key: value for key, value in properties.items() if key not in self.apart}
        request = coerced(f"Create{self.kind}", given | {self.named_by: name})
        call(f"Create{self.kind}", request)
        try:
            described = self._settled(call, name)
            if self.updates:
                self.updates(call, name, {key: None for key in self.apart if key in properties}, properties)
        except Exception:
            self.delete(call, name)
            raise
        return described[self.arn], self._attributes(described)

    def update(
        self, call: Call, name: str, old: dict[str, Any], new: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Update the resource in place. Return its Ref and attributes."""
        described = call(f"Describe{self.kind}", {self.named_by: name})
        arn = described[self.arn]
        self._tag(call, arn, old.get("Tags") or [], new.get("Tags") or [])
        if self.updates:
            self.updates(call, name, old, new)
            described = self._settled(call, name)
        return arn, self._attributes(described)

    def delete(self, call: Call, name: str) -> None:
        """Delete the resource, if it exists, and wait until it is deleted."""
        described = self._described(call, name)
        if described is None:
            return
        if self.kind == "NotebookInstance":
            _stop_notebook(call, name)
        try:
            call(f"Delete{self.kind}", {self.named_by: name})
        except ApiError as error:
            if error.code not in GONE or self._described(call, name) is not None:
                raise
        while self.settles and self._described(call, name) is not None:
            time.sleep(POLL_SECONDS)

    def _described(self, call: Call, name: str) -> dict[str, Any] | None:
        try:
            return call(f"Describe{self.kind}", {self.named_by: name})
        except ApiError as error:
            if error.code in GONE:
                return None
            raise

    def _settled(self, call: Call, name: str) -> dict[str, Any]:
        while True:
            described = call(f"Describe{self.kind}", {self.named_by: name})
            if not self.settles or described[self.status] in self.settles:
                return described
            if described[self.status] in self.fails:
                reason = described.get("FailureReason", "no reason given")
                raise ValueError(f"{self.kind} {name} is {described[self.status]}: {reason}")
            time.sleep(POLL_SECONDS)

    def _attributes(self, described: dict[str, Any]) -> dict[str, Any]:
        return {key: described[key] for key in (self.named_by, *self.attributes) if key in described}

    def _tag(self, call: Call, arn: str, old: list[dict], new: list[dict]) -> None:
        dropped = {tag["Key"] for tag in old} - {tag["Key"] for tag in new}
        if dropped:
            call("DeleteTags", {"ResourceArn": arn, "TagKeys": sorted(dropped)})
        changed = [tag for tag in new if tag not in old]
        if changed:
            call("AddTags", {"ResourceArn": arn, "Tags": changed})


@dataclass(frozen=True)
class Identified(Type):
    """A type whose resources are identified by the properties in `identifier`. `Ref` has their values, joined
    by `|`."""

    identifier: tuple[str, ...] = ()
    translate: Callable[[dict[str, Any]], dict[str, Any]] = lambda properties: properties
    """Converts properties to a request's members, for types where the two differ"""

    def identity(self, context: api.Context, record: dict[str, Any]) -> tuple[str, str, str]:
        ref = "|".join(record[key] for key in self.identifier)
        return ref, ref, record[self.arn]

    def create(self, call: Call, name: str, properties: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        given = self.translate(properties | {self.named_by: name})
        request = coerced(f"Create{self.kind}", given)
        known = request | call(f"Create{self.kind}", request)
        which = {key: known[key] for key in self.identifier}
        return "|".join(which.values()), self._attributes(call(f"Describe{self.kind}", which))

    def update(
        self, call: Call, name: str, old: dict[str, Any], new: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        which = self._which(name)
        described = call(f"Describe{self.kind}", which)
        self._tag(call, described[self.arn], old.get("Tags") or [], new.get("Tags") or [])
        changes = {key: value for key, value in new.items() if key != "Tags" and value != old.get(key)}
        if changes:
            request = self.translate(changes | which)
            call(f"Update{self.kind}", coerced(f"Update{self.kind}", request))
        return name, self._attributes(call(f"Describe{self.kind}", which))

    def delete(self, call: Call, name: str) -> None:
        try:
            call(f"Delete{self.kind}", self._which(name))
        except ApiError as error:
            if error.code not in GONE:
                raise

    def _which(self, ref: str) -> dict[str, str]:
        return dict(zip(self.identifier, ref.split("|"), strict=True))


class KnownByArn(Identified):
    """A type whose resources are identified by their ARN, which is also the `Ref`."""

    @property
    def arn(self) -> str:
        return "Arn"

    def name_of(self, ref: str) -> str:
        return ref

    def create(self, call: Call, name: str, properties: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        ref, attributes = super().create(call, name, properties)
        while attributes["Status"] == "Creating":
            time.sleep(POLL_SECONDS)
            attributes = self._attributes(call(f"Describe{self.kind}", self._which(ref)))
        if attributes["Status"] in self.fails:
            self.delete(call, ref)
            raise ValueError(f"{self.kind} {ref} is {attributes['Status']}")
        return ref, attributes


def _update_endpoint(call: Call, name: str, old: dict, new: dict) -> None:
    """Change an endpoint's configuration. Raises ValueError if the update was rolled back."""
    if "EndpointConfigName" not in old or old["EndpointConfigName"] == new["EndpointConfigName"]:
        return
    given = {key: value for key, value in new.items() if key != "Tags"}
    call("UpdateEndpoint", coerced("UpdateEndpoint", given | {"EndpointName": name}))
    while True:
        described = call("DescribeEndpoint", {"EndpointName": name})
        if described["EndpointStatus"] not in ("Updating", "RollingBack", "SystemUpdating"):
            break
        time.sleep(POLL_SECONDS)
    if described["EndpointConfigName"] != new["EndpointConfigName"]:
        reason = described.get("FailureReason", "no reason given")
        raise ValueError(f"Endpoint {name} was rolled back to {described['EndpointConfigName']}: {reason}")


def _update_notebook(call: Call, name: str, old: dict, new: dict) -> None:
    """Stop a notebook instance, change it, and start it again if it was running."""
    if "RoleArn" not in old:
        return  # it was just created
    ran = _stop_notebook(call, name)
    changes = {key: value for key, value in new.items() if key != "Tags" and value != old.get(key)}
    gone = {
        "LifecycleConfigName": "DisassociateLifecycleConfig",
        "DefaultCodeRepository": "DisassociateDefaultCodeRepository",
        "AdditionalCodeRepositories": "DisassociateAdditionalCodeRepositories",
    }
    changes |= {flag: True for key, flag in gone.items() if key in old and key not in new}
    if changes:
        request = changes | {"NotebookInstanceName": name}
        call("UpdateNotebookInstance", coerced("UpdateNotebookInstance", request))
    _wait_notebook(call, name, "Stopped")
    if ran:
        call("StartNotebookInstance", {"NotebookInstanceName": name})


def _stop_notebook(call: Call, name: str) -> bool:
    """Stop a notebook instance. Return whether it was running."""
    status = _wait_notebook(call, name, "InService", "Stopped", "Failed")
    if status == "InService":
        call("StopNotebookInstance", {"NotebookInstanceName": name})
        _wait_notebook(call, name, "Stopped", "Failed")
    return status == "InService"


def _wait_notebook(call: Call, name: str, *states: str) -> str:
    while True:
        status = call("DescribeNotebookInstance", {"NotebookInstanceName": name})["NotebookInstanceStatus"]
        if status in states:
            return status
        time.sleep(POLL_SECONDS)


def _update_lifecycle(call: Call, name: str, old: dict, new: dict) -> None:
    scripts = {key: new.get(key, []) for key in ("OnCreate", "OnStart")}
    if old and any(old.get(key, []) != value for key, value in scripts.items()):
        operation = "UpdateNotebookInstanceLifecycleConfig"
        call(operation, coerced(operation, scripts | {"NotebookInstanceLifecycleConfigName": name}))


def _update_group(call: Call, name: str, old: dict, new: dict) -> None:
    policy = new.get("ModelPackageGroupPolicy")
    if policy == old.get("ModelPackageGroupPolicy"):
        return
    if policy is None:
        call("DeleteModelPackageGroupPolicy", {"ModelPackageGroupName": name})
    else:
        text = policy if isinstance(policy, str) else json.dumps(policy)
        call("PutModelPackageGroupPolicy", {"ModelPackageGroupName": name, "ResourcePolicy": text})


def _pipeline_request(properties: dict[str, Any]) -> dict[str, Any]:
    """Convert a pipeline's properties to a request's members: those of `PipelineDefinition` are not nested
    there.

    Raises ValueError for an unsupported property."""
    request = {key: value for key, value in properties.items() if key != "PipelineDefinition"}
    definition = dict(properties.get("PipelineDefinition") or {})
    if "PipelineDefinitionBody" in definition:
        request["PipelineDefinition"] = definition.pop("PipelineDefinitionBody")
    if place := definition.pop("PipelineDefinitionS3Location", None):
        names = {"Key": "ObjectKey", "Version": "VersionId"}
        request["PipelineDefinitionS3Location"] = {names.get(key, key): place[key] for key in place}
    if definition:
        raise ValueError(f"Encountered unsupported property {next(iter(definition))}")
    return request


TYPES = {
    "AWS::SageMaker::Model": Type(
        "Model",
        replacing=(
            "ModelName", "PrimaryContainer", "Containers", "ExecutionRoleArn", "VpcConfig",
            "EnableNetworkIsolation", "InferenceExecutionConfig",
        ),
    ),
    "AWS::SageMaker::EndpointConfig": Type(
        "EndpointConfig",
        replacing=(
            "EndpointConfigName", "ProductionVariants", "ShadowProductionVariants", "DataCaptureConfig",
            "KmsKeyId", "AsyncInferenceConfig", "ExplainerConfig", "VpcConfig", "ExecutionRoleArn",
            "EnableNetworkIsolation",
        ),
    ),
    "AWS::SageMaker::Endpoint": Type(
        "Endpoint",
        replacing=("EndpointName",),
        settles=("InService",),
        apart=(
            "RetainAllVariantProperties", "ExcludeRetainedVariantProperties",
            "RetainDeploymentConfig",
        ),
        updates=_update_endpoint,
    ),
    "AWS::SageMaker::NotebookInstance": Type(
        "NotebookInstance",
        replacing=(
            "NotebookInstanceName", "SubnetId", "SecurityGroupIds", "KmsKeyId", "DirectInternetAccess",
            "PlatformIdentifier",
        ),
        settles=("InService", "Stopped"),
        updates=_update_notebook,
    ),
    "AWS::SageMaker::NotebookInstanceLifecycleConfig": Type(
        "NotebookInstanceLifecycleConfig",
        replacing=("NotebookInstanceLifecycleConfigName",),
        updates=_update_lifecycle,
    ),
    # `remove_unlisted` deletes in this order: spaces and user profiles before their domain
    "AWS::SageMaker::Space": Identified(
        "Space",
        identifier=("DomainId", "SpaceName"),
        replacing=("DomainId", "SpaceName", "OwnershipSettings", "SpaceSharingSettings"),
        attributes=("SpaceArn", "Url"),
    ),
    "AWS::SageMaker::UserProfile": Identified(
        "UserProfile",
        identifier=("UserProfileName", "DomainId"),
        replacing=("UserProfileName", "DomainId", "Tags"),
        attributes=("UserProfileArn",),
    ),
    "AWS::SageMaker::Domain": Identified(
        "Domain",
        identifier=("DomainId",),
        replacing=(
            "DomainName", "AppNetworkAccessType", "KmsKeyId", "VpcId", "SubnetIds", "AuthMode", "Tags",
        ),
        attributes=(
            "DomainArn", "DomainId", "HomeEfsFileSystemId", "SecurityGroupIdForDomainBoundary", "Url",
        ),
    ),
    "AWS::SageMaker::Pipeline": Identified(
        "Pipeline",
        identifier=("PipelineName",),
        replacing=("PipelineName",),
        name_length=256,
        translate=_pipeline_request,
    ),
    "AWS::SageMaker::MlflowApp": KnownByArn(
        "MlflowApp",
        identifier=("Arn",),
        name="Name",
        replacing=("Name", "RoleArn"),
        name_length=256,
        attributes=("Arn", "MlflowVersion", "Status"),
        fails=("CreateFailed",),
    ),
    "AWS::SageMaker::ModelPackageGroup": Type(
        "ModelPackageGroup",
        replacing=("ModelPackageGroupName", "ModelPackageGroupDescription"),
        attributes=("ModelPackageGroupArn", "ModelPackageGroupStatus", "CreationTime"),
        apart=("ModelPackageGroupPolicy",),
        updates=_update_group,
    ),
}  # fmt: skip


def remove_unlisted(context: api.Context, stack: dict[str, Any]) -> None:
    """Delete the resources that a stack created but does not list.

    SageMaker's records are saved immediately, CloudFormation's state a moment later. So after a crash a stack
    may not list the resources that it created last. Without this function they would never be deleted.
    """
    listed = {resource["PhysicalResourceId"] for resource in stack.get("_resources", {}).values()}

    def call(operation: str, params: dict[str, Any]) -> dict[str, Any]:
        return api.call(context, operation, api.with_tokens(operation, params))

    for kind in TYPES.values():
        for record in list(context.store.all(kind.records)):
            name, ref, arn = kind.identity(context, record)
            owner = {"Key": "aws:cloudformation:stack-id", "Value": stack["StackId"]}
            if ref not in listed and owner in tags.attached(context.store, arn):
                kind.delete(call, name)


def coerced(operation: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Convert properties to the types of an operation's input.

    Templates may have numbers and booleans as text. Raises `ValueError` for a property that the operation
    does not have."""
    return _coerced(api.service_model().operation_model(operation).input_shape, properties)


def coerced_like(service: str, shape: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Convert properties to the types of a shape in a service's model. Raises `ValueError` like `coerced`."""
    return _coerced(api.service_model(service).shape_for(shape), properties)


def _coerced(shape: Any, properties: dict[str, Any]) -> dict[str, Any]:
    def value_of(shape: Any, value: Any) -> Any:
        if isinstance(shape, StructureShape) and isinstance(value, dict):
            members: Any = shape.members
            unknown = [key for key in value if key not in members]
            if unknown:
                raise ValueError(f"Encountered unsupported property {unknown[0]}")
            return {key: value_of(members[key], item) for key, item in value.items()}
        if isinstance(shape, ListShape) and isinstance(value, list):
            return [value_of(shape.member, item) for item in value]
        if isinstance(shape, MapShape) and isinstance(value, dict):
            return {key: value_of(shape.value, item) for key, item in value.items()}
        if isinstance(value, str) and shape.type_name in ("integer", "long"):
            return int(value)
        if isinstance(value, str) and shape.type_name in ("float", "double"):
            return float(value)
        if isinstance(value, str) and shape.type_name == "boolean":
            return value.lower() == "true"
        if not isinstance(value, str) and shape.type_name == "string":
            return str(value).lower() if isinstance(value, bool) else str(value)
        return value

    return value_of(shape, properties)
