"""Domains, user profiles and spaces of the local SageMaker: stored fields, and refusals as on AWS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local.sagemaker import api, domains
from local.sagemaker.api import ApiError, Context
from local.sagemaker.store import Store

ROLE = "arn:aws:iam::000000000000:role/r"
SETTINGS = {"ExecutionRole": ROLE, "SecurityGroups": ["sg-0123abcd"]}
DOMAIN = {
    "DomainName": "trial",
    "AuthMode": "IAM",
    "VpcId": "vpc-0123abcd",
    "SubnetIds": ["subnet-0123abcd"],
    "AppNetworkAccessType": "VpcOnly",
    "DefaultUserSettings": SETTINGS,
}


def idle(**minutes: int) -> dict[str, Any]:
    """Return settings of JupyterLab with idle timeouts in minutes: the minimum `Min`, the maximum `Max`, and
    the timeout `chosen`."""
    times = {f"{name.replace('chosen', '')}IdleTimeoutInMinutes": value for name, value in minutes.items()}
    lab = {"AppLifecycleManagement": {"IdleSettings": times}}
    return {"JupyterLabAppSettings": lab}


class Cloud:
    """The parts of a local cloud that the operations of domains use."""

    settings: dict[str, Any] = {}  # noqa: RUF012 - no test changes it

    def authorize(self, *asked: Any) -> None: ...


class SageMaker:
    def __init__(self, path: Path):
        self.context = Context(Cloud(), Store(path).scoped("000000000000", "eu-west-1"))  # type: ignore[arg-type]

    def __call__(self, operation: str, **params: Any) -> dict[str, Any]:
        return api.call(self.context, operation, params)

    def domain(self, **settings: Any) -> str:
        given = DOMAIN | {"DefaultUserSettings": SETTINGS | settings}
        return self("CreateDomain", **given)["DomainId"]


@pytest.fixture
def sagemaker(tmp_path: Path) -> SageMaker:
    return SageMaker(tmp_path / "records.sqlite")


OWNED = {
    "OwnershipSettings": {"OwnerUserProfileName": "me"},
    "SpaceSharingSettings": {"SharingType": "Private"},
}


def test_domain_is_described_listed_and_deleted_with_its_contents(sagemaker: SageMaker) -> None:
    # given a domain with a user profile and a space of this profile
    domain = sagemaker.domain(**idle(Min=60, chosen=90, Max=120))
    mine = {"DomainId": domain, "UserProfileName": "me"}
    space = {"DomainId": domain, "SpaceName": "lab"}
    sagemaker("CreateUserProfile", **mine)
    sagemaker("CreateSpace", **space, **OWNED, SpaceSettings={"AppType": "JupyterLab"} | idle(chosen=60))
    # then the domain, the profile and the space are described and listed
    found = sagemaker("DescribeDomain", DomainId=domain)
    assert found["DomainArn"] == sagemaker.context.arn(domains.DOMAIN, domain)
    assert found["DefaultUserSettings"]["ExecutionRole"] == ROLE
    assert sagemaker("DescribeUserProfile", **mine)["Status"] == "InService"
    assert sagemaker("DescribeSpace", **space)["SpaceSharingSettings"] == {"SharingType": "Private"}
    assert [each["DomainId"] for each in sagemaker("ListDomains")["Domains"]] == [domain]
    assert len(sagemaker("ListSpaces", DomainIdEquals=domain, SpaceNameContains="la")["Spaces"]) == 1
    assert sagemaker("ListUserProfiles", DomainIdEquals="d-other")["UserProfiles"] == []
    # and the profile and the space must be deleted before the domain
    for operation, which in (
        ("DeleteDomain", {"DomainId": domain}),
        ("DeleteUserProfile", mine),
    ):
        with pytest.raises(ApiError, match=r"because .* associated with it") as refused:
            sagemaker(operation, **which)
        assert refused.value.code == "ResourceInUse"
    sagemaker("DeleteSpace", **space)
    sagemaker("DeleteUserProfile", **mine)
    sagemaker("DeleteDomain", DomainId=domain)
    with pytest.raises(ApiError, match="does not exist") as refused:
        sagemaker("DescribeDomain", DomainId=domain)
    assert refused.value.code == "ResourceNotFound"


def test_settings_change_in_place(sagemaker: SageMaker) -> None:
    domain = sagemaker.domain()
    sagemaker("UpdateDomain", DomainId=domain, DefaultUserSettings=idle(chosen=90))
    found = sagemaker("DescribeDomain", DomainId=domain)["DefaultUserSettings"]
    assert found == SETTINGS | idle(chosen=90)
    sagemaker("CreateUserProfile", DomainId=domain, UserProfileName="me")
    sagemaker("UpdateUserProfile", DomainId=domain, UserProfileName="me", UserSettings=idle(chosen=60))
    found = sagemaker("DescribeUserProfile", DomainId=domain, UserProfileName="me")
    assert found["UserSettings"] == idle(chosen=60)
    sagemaker("CreateSpace", DomainId=domain, SpaceName="lab", **OWNED)
    sagemaker("UpdateSpace", DomainId=domain, SpaceName="lab", SpaceDisplayName="Lab")
    assert sagemaker("DescribeSpace", DomainId=domain, SpaceName="lab")["SpaceDisplayName"] == "Lab"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"SubnetIds": None}, "SubnetIds must be given"),
        ({"VpcId": None, "SubnetIds": None}, "VpcId and SubnetIds must be given"),
        ({"AuthMode": "PASSWORD"}, r"must be one of \[SSO, IAM\]"),
        ({"AuthMode": "SSO"}, "AuthMode SSO is not implemented"),
        ({"DefaultUserSettings": {"SecurityGroups": ["sg-1"]}}, "ExecutionRole must be given"),
        ({"DefaultUserSettings": {"ExecutionRole": ROLE}}, "SecurityGroups must be given"),
        ({"DefaultUserSettings": SETTINGS | idle(chosen=59)}, "59"),
        ({"DefaultUserSettings": SETTINGS | idle(chosen=525_601)}, "at most 525600"),
        ({"DefaultUserSettings": SETTINGS | idle(Min=90, chosen=60)}, "from MinIdleTimeoutInMinutes to Max"),
        ({"DefaultUserSettings": SETTINGS | idle(chosen=120, Max=90)}, "from MinIdleTimeoutInMinutes to Max"),
    ],
)
def test_invalid_domain_is_refused(sagemaker: SageMaker, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        sagemaker("CreateDomain", **(DOMAIN | changes))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"OwnershipSettings": OWNED["OwnershipSettings"]}, "must be given together"),
        (OWNED | {"OwnershipSettings": {"OwnerUserProfileName": "nobody"}}, "nobody does not exist"),
        (OWNED | {"SpaceSettings": idle(chosen=121)}, "must be from 60 to 120, got 121"),
        (OWNED | {"DomainId": "d-nowhere"}, "d-nowhere does not exist"),
    ],
)
def test_invalid_space_is_refused(sagemaker: SageMaker, given: dict[str, Any], reason: str) -> None:
    domain = sagemaker.domain(**idle(Min=60, chosen=60, Max=120))
    sagemaker("CreateUserProfile", DomainId=domain, UserProfileName="me")
    with pytest.raises(ApiError, match=reason):
        sagemaker("CreateSpace", **({"DomainId": domain, "SpaceName": "lab"} | given))
