"""Tags of resources, stored under the resource's ARN.

A resource of kind K and name N is stored as record (K, N) and has the ARN `...:K/N`. Tags work for every kind
of resource that follows this convention.
"""

from __future__ import annotations

from typing import Any

from local.sagemaker.api import Context, invalid, operation, page
from local.sagemaker.store import Record, Scope

KIND = "tags"
MOST = 50

Tags = list[dict[str, str]]


def check(context: Context, tags: Tags | None) -> None:
    """Raise ApiError for duplicate or reserved tag keys.

    Calls of the cloud itself, such as CloudFormation's, may set AWS's reserved tags."""
    keys = [tag["Key"] for tag in tags or ()]
    for key in keys:
        if keys.count(key) > 1:
            raise invalid(f"Duplicate tag key found: {key}")
        if key.lower().startswith("aws:") and context.access_key is not None:
            raise invalid(f"Tag keys that start with aws: are reserved for system use: {key}")


def attach(context: Context, arn: str, tags: Tags | None) -> None:
    """Add tags to a resource, replacing tags of the same keys.

    Raises ApiError, and changes nothing, for invalid or too many tags."""
    if not tags:
        return
    check(context, tags)
    new = {tag["Key"]: tag["Value"] for tag in tags}

    def merge(record: Record) -> Record:
        merged = record | new
        if len(merged) > MOST:
            raise invalid(f"{arn} would have {len(merged)} tags, at most {MOST} are allowed")
        return merged

    context.store.add(KIND, arn, {})
    context.store.change(KIND, arn, merge)


def attached(store: Scope, arn: str) -> Tags:
    """Return a resource's tags, sorted by key."""
    return [{"Key": key, "Value": value} for key, value in sorted((store.get(KIND, arn) or {}).items())]


def forget(context: Context, arn: str) -> None:
    """Remove the tags of a resource that was deleted."""
    context.store.remove(KIND, arn)


def _resource(context: Context, params: dict[str, Any]) -> str:
    return str(params.get("ResourceArn", "*"))


def _known(context: Context, params: dict[str, Any]) -> str:
    arn = params["ResourceArn"]
    *_, region, account, path = arn.split(":", 5)
    kind, _, name = path.partition("/")
    here = (account, region) == (context.account, context.region)
    if not here or context.store.get(kind, name) is None:
        raise invalid(f"Could not find resource {arn}")
    return arn


@operation("AddTags", _resource)
def add_tags(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    arn = _known(context, params)
    attach(context, arn, params["Tags"])
    return {"Tags": attached(context.store, arn)}


@operation("ListTags", _resource)
def list_tags(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    tags = attached(context.store, _known(context, params))
    return page(params | {"SortBy": "Key", "SortOrder": "Ascending"}, tags, "Tags")


@operation("DeleteTags", _resource)
def delete_tags(context: Context, params: dict[str, Any]) -> None:
    def remove(tags: Record) -> None:
        for key in params["TagKeys"]:
            tags.pop(key, None)

    context.store.change(KIND, _known(context, params), remove)
