"""What every stack makes of the settings that every architecture has."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from groundplan import Network
from settings import Architecture


def network_of(scope: Construct, settings: Architecture) -> Network | None:
    """The VPC that training joins; None without subnets."""
    if not settings.subnet_ids:
        return None
    return Network(
        subnets=[ec2.Subnet.from_subnet_id(scope, id, id) for id in settings.subnet_ids],
        security_groups=[
            ec2.SecurityGroup.from_security_group_id(scope, id, id) for id in settings.security_group_ids
        ],
    )


def key_of(scope: Construct, settings: Architecture, of: str) -> kms.Key | None:
    """A key of the stack's own, for what `of` says; None where AWS's keys do."""
    if not settings.own_key:
        return None
    return kms.Key(
        scope,
        "Key",
        description=f"Groundplan: {of}",
        enable_key_rotation=True,
        removal_policy=RemovalPolicy.RETAIN if settings.retain else RemovalPolicy.DESTROY,
        pending_window=Duration.days(7),
    )


def retention(days: int) -> logs.RetentionDays:
    """The CDK's name for a number of days."""
    names = {
        1: "ONE_DAY",
        3: "THREE_DAYS",
        5: "FIVE_DAYS",
        7: "ONE_WEEK",
        14: "TWO_WEEKS",
        30: "ONE_MONTH",
        60: "TWO_MONTHS",
        90: "THREE_MONTHS",
        180: "SIX_MONTHS",
        365: "ONE_YEAR",
        731: "TWO_YEARS",
        1827: "FIVE_YEARS",
        3653: "TEN_YEARS",
    }
    return logs.RetentionDays[names[days]]
