"""Domains, user profiles and spaces: records with the service's validation.

The local cloud does not run Studio, so domains, profiles and spaces are `InService` immediately. Notebooks
are opened in an editor on this machine, not through the local cloud. Apps are not implemented.
"""

from __future__ import annotations

import secrets
import string
from typing import Any

from local.sagemaker import records
from local.sagemaker.api import ApiError, Context, invalid, now, operation, page
from local.sagemaker.store import Record

DOMAIN, PROFILE, SPACE = "domain", "user-profile", "space"


def missing(what: str) -> ApiError:
    return ApiError("ResourceNotFound", f"RecordNotFound: {what} does not exist.")


def in_use(message: str) -> ApiError:
    return ApiError("ResourceInUse", message)


def _named(member: str) -> Any:
    """Return a function that makes the name in a resource's ARN, such as `d-abc/name`, from a request."""
    return lambda params: f"{params['DomainId']}/{params[member]}"


_profile_name, _space_name = _named("UserProfileName"), _named("SpaceName")


def _domain(context: Context, params: dict[str, Any]) -> str:
    return context.arn(DOMAIN, str(params.get("DomainId", "*")))


def _profile(context: Context, params: dict[str, Any]) -> str:
    return context.arn(PROFILE, _profile_name(params))


def _space(context: Context, params: dict[str, Any]) -> str:
    return context.arn(SPACE, _space_name(params))


def _found(context: Context, kind: str, name: str) -> Record:
    record = context.store.get(kind, name)
    if record is None:
        raise missing(context.arn(kind, name))
    return record


# Validation of settings


def check_user_settings(settings: dict[str, Any], where: str) -> None:
    """Raise ApiError for idle times or volume sizes that contradict each other.

    `api.validate` checks the range of each value.

    :param where: path of the settings in the request, for the error message
    """
    idle = _idle(settings)
    low, chosen, high = (
        idle.get(f"{bound}IdleTimeoutInMinutes") for bound in ("Min", "", "Max")
    )  # each may be absent
    given = [each for each in (low, chosen, high) if each is not None]
    if given != sorted(given):
        raise invalid(
            f"{where}: IdleTimeoutInMinutes must be from MinIdleTimeoutInMinutes to MaxIdleTimeoutInMinutes"
        )
    sizes = (settings.get("SpaceStorageSettings") or {}).get("DefaultEbsStorageSettings") or {}
    if sizes and sizes["DefaultEbsVolumeSizeInGb"] > sizes["MaximumEbsVolumeSizeInGb"]:
        raise invalid(f"{where}: DefaultEbsVolumeSizeInGb must be at most MaximumEbsVolumeSizeInGb")


def _idle(settings: dict[str, Any]) -> dict[str, Any]:
    lab = settings.get("JupyterLabAppSettings") or {}
    return (lab.get("AppLifecycleManagement") or {}).get("IdleSettings") or {}


def _check_network(params: dict[str, Any]) -> None:
    absent = [name for name in ("VpcId", "SubnetIds") if not params.get(name)]
    if absent:
        # AWS accepts a domain without them from SageMaker Unified Studio only
        raise invalid(f"{' and '.join(absent)} must be given.")
    settings = params["DefaultUserSettings"]
    if not settings.get("ExecutionRole"):
        raise invalid("DefaultUserSettings.ExecutionRole must be given.")
    if params.get("AppNetworkAccessType") == "VpcOnly" and not settings.get("SecurityGroups"):
        raise invalid("DefaultUserSettings.SecurityGroups must be given with AppNetworkAccessType VpcOnly.")


# Domains


@operation("CreateDomain")
def create_domain(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    _check_network(params)
    check_user_settings(params["DefaultUserSettings"], "DefaultUserSettings")
    name = params["DomainName"]
    if any(each["DomainName"] == name for each in context.store.all(DOMAIN)):
        raise in_use(f"Unable to create Domain: there is one named {name} already.")
    domain = "d-" + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))
    arn = context.arn(DOMAIN, domain)
    record = records.summary(
        params,
        *("DomainName", "AuthMode", "DefaultUserSettings", "DomainSettings", "SubnetIds", "VpcId"),
        *("HomeEfsFileSystemKmsKeyId", "KmsKeyId", "AppSecurityGroupManagement", "DefaultSpaceSettings"),
    ) | {
        "DomainId": domain,
        "DomainArn": arn,
        "Url": f"https://{domain}.studio.{context.region}.sagemaker.aws",
        "AppNetworkAccessType": params.get("AppNetworkAccessType", "PublicInternetOnly"),
        "HomeEfsFileSystemCreation": params.get("HomeEfsFileSystemCreation", "Enabled"),
        "TagPropagation": params.get("TagPropagation", "DISABLED"),
        **_new(),
    }
    records.create(context, DOMAIN, domain, record, params.get("Tags"), domain)
    return {"DomainArn": arn, "DomainId": domain, "Url": record["Url"]}


def _new() -> Record:
    return {"Status": "InService", "CreationTime": now(), "LastModifiedTime": now()}


@operation("DescribeDomain", _domain)
def describe_domain(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return _found(context, DOMAIN, params["DomainId"])


@operation("ListDomains")
def list_domains(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    members = ("DomainName", "DomainArn", "DomainId", "Status", "CreationTime", "LastModifiedTime", "Url")
    return page(params, [records.summary(each, *members) for each in context.store.all(DOMAIN)], "Domains")


@operation("UpdateDomain", _domain)
def update_domain(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    check_user_settings(params.get("DefaultUserSettings") or {}, "DefaultUserSettings")
    changes = records.summary(
        params,
        *("AppSecurityGroupManagement", "DefaultSpaceSettings", "SubnetIds", "AppNetworkAccessType"),
        *("TagPropagation", "HomeEfsFileSystemCreation", "VpcId"),
    )
    settings = params.get("DefaultUserSettings") or {}
    domain = params["DomainId"]

    def edit(record: Record) -> None:
        record |= changes | {"LastModifiedTime": now()}
        record["DefaultUserSettings"] |= settings
        record["DomainSettings"] = (record.get("DomainSettings") or {}) | (
            params.get("DomainSettingsForUpdate") or {}
        )

    if context.store.change(DOMAIN, domain, edit) is None:
        raise missing(context.arn(DOMAIN, domain))
    return {"DomainArn": context.arn(DOMAIN, domain)}


@operation("DeleteDomain", _domain)
def delete_domain(context: Context, params: dict[str, Any]) -> None:
    domain = params["DomainId"]
    for kind, what in ((SPACE, "Space"), (PROFILE, "UserProfile")):
        if any(each["DomainId"] == domain for each in context.store.all(kind)):
            arn = context.arn(DOMAIN, domain)
            raise in_use(f"Unable to delete Domain [{arn}] because {what}(s) are associated with it.")
    _remove(context, DOMAIN, domain)


def _remove(context: Context, kind: str, name: str) -> None:
    _found(context, kind, name)
    records.remove(context, kind, name, context.arn(kind, name))


# User profiles and spaces


def _create_within(context: Context, kind: str, name: str, params: dict[str, Any], record: Record) -> str:
    """Store a profile or a space of an existing domain and return its ARN. Raises ApiError."""
    _found(context, DOMAIN, params["DomainId"])
    arn = context.arn(kind, name)
    if context.store.get(kind, name):
        raise in_use(f"{arn} exists already.")
    return records.create(context, kind, name, record | _new(), params.get("Tags"), arn)


def _list_within(context: Context, kind: str, params: dict[str, Any], key: str, named: str) -> Any:
    member = key.removesuffix("s") + "Name"
    members = (member, "DomainId", "Status", "CreationTime", "LastModifiedTime", "SpaceDisplayName")
    found = [
        records.summary(each, *members)
        for each in context.store.all(kind)
        if params.get("DomainIdEquals") in (None, each["DomainId"]) and params.get(named, "") in each[member]
    ]
    return page(params, found, key)


@operation("CreateUserProfile", _profile)
def create_user_profile(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    settings = params.get("UserSettings") or {}
    check_user_settings(settings, "UserSettings")
    record = records.summary(params, "DomainId", "UserProfileName") | {"UserSettings": settings}
    arn = context.arn(PROFILE, _profile_name(params))
    record["UserProfileArn"] = arn
    _create_within(context, PROFILE, _profile_name(params), params, record)
    return {"UserProfileArn": arn}


@operation("DescribeUserProfile", _profile)
def describe_user_profile(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return _found(context, PROFILE, _profile_name(params))


@operation("ListUserProfiles")
def list_user_profiles(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return _list_within(context, PROFILE, params, "UserProfiles", "UserProfileNameContains")


@operation("UpdateUserProfile", _profile)
def update_user_profile(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    settings = params.get("UserSettings") or {}
    check_user_settings(settings, "UserSettings")

    def edit(record: Record) -> None:
        record["UserSettings"] |= settings
        record["LastModifiedTime"] = now()

    if context.store.change(PROFILE, _profile_name(params), edit) is None:
        raise missing(_profile(context, params))
    return {"UserProfileArn": _profile(context, params)}


@operation("DeleteUserProfile", _profile)
def delete_user_profile(context: Context, params: dict[str, Any]) -> None:
    owned = [
        each["SpaceName"]
        for each in context.store.all(SPACE)
        if each["DomainId"] == params["DomainId"]
        and (each.get("OwnershipSettings") or {}).get("OwnerUserProfileName") == params["UserProfileName"]
    ]
    if owned:
        raise in_use(
            f"Unable to delete UserProfile [{_profile(context, params)}] because Space(s) are associated"
            f" with it: {', '.join(owned)}."
        )
    _remove(context, PROFILE, _profile_name(params))


@operation("CreateSpace", _space)
def create_space(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    domain = _found(context, DOMAIN, params["DomainId"])
    owner, sharing = params.get("OwnershipSettings"), params.get("SpaceSharingSettings")
    if bool(owner) != bool(sharing):
        raise invalid("OwnershipSettings and SpaceSharingSettings must be given together.")
    if owner:
        profile = f"{params['DomainId']}/{owner['OwnerUserProfileName']}"
        limits = _idle(domain["DefaultUserSettings"]) | _idle(
            _found(context, PROFILE, profile)["UserSettings"]
        )
    else:
        limits = {}
    settings = params.get("SpaceSettings") or {}
    _check_space_idle(_idle(settings), limits)
    arn = context.arn(SPACE, _space_name(params))
    record = records.summary(
        params, "DomainId", "SpaceName", "OwnershipSettings", "SpaceSharingSettings", "SpaceDisplayName"
    ) | {"SpaceArn": arn, "SpaceSettings": settings, "Url": f"{domain['Url']}/jupyterlab/default"}
    _create_within(context, SPACE, _space_name(params), params, record)
    return {"SpaceArn": arn}


def _check_space_idle(idle: dict[str, Any], limits: dict[str, Any]) -> None:
    chosen = idle.get("IdleTimeoutInMinutes")
    if chosen is None:
        return
    low = limits.get("MinIdleTimeoutInMinutes", chosen)
    high = limits.get("MaxIdleTimeoutInMinutes", chosen)
    if not low <= chosen <= high:
        raise invalid(f"IdleTimeoutInMinutes of a space must be from {low} to {high}, got {chosen}.")


@operation("DescribeSpace", _space)
def describe_space(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return _found(context, SPACE, _space_name(params))


@operation("ListSpaces")
def list_spaces(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return _list_within(context, SPACE, params, "Spaces", "SpaceNameContains")


@operation("UpdateSpace", _space)
def update_space(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    def edit(record: Record) -> None:
        record["SpaceSettings"] |= params.get("SpaceSettings") or {}
        record |= records.summary(params, "SpaceDisplayName") | {"LastModifiedTime": now()}

    if context.store.change(SPACE, _space_name(params), edit) is None:
        raise missing(_space(context, params))
    return {"SpaceArn": _space(context, params)}


@operation("DeleteSpace", _space)
def delete_space(context: Context, params: dict[str, Any]) -> None:
    _remove(context, SPACE, _space_name(params))
