"""The schedule that starts a run every hour."""

from __future__ import annotations

import json

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from groundplan import allow, allow_key

LATEST_SECONDS = 900
"""Maximum age in seconds at which a failed start is still retried."""


def hourly(
    scope: Construct,
    *,
    name: str,
    machine: sfn.StateMachine,
    letters: sqs.IQueue,
    key: kms.IKey | None,
    enabled: bool,
) -> scheduler.CfnSchedule:
    """Start `machine` at minute 2 of each hour, with the time as input. Failed starts become dead letters."""
    role = iam.Role(
        scope,
        "ScheduleRole",
        assumed_by=iam.ServicePrincipal(
            "scheduler.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
        ),
        description=f"Starts {name} every hour",
    )
    machine.grant_start_execution(role)
    allow(role, "sqs:SendMessage", on=[letters.queue_arn])
    allow_key(role, key)
    schedule = scheduler.CfnSchedule(
        scope,
        "EveryHour",
        name=name,
        description=f"A run of {name}",
        schedule_expression="cron(2 * * * ? *)",
        schedule_expression_timezone="UTC",
        state="ENABLED" if enabled else "DISABLED",
        flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
        target=scheduler.CfnSchedule.TargetProperty(
            arn=machine.state_machine_arn,
            role_arn=role.role_arn,
            input=json.dumps({"time": "<aws.scheduler.scheduled-time>"}),
            dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=letters.queue_arn),
            retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                maximum_event_age_in_seconds=LATEST_SECONDS, maximum_retry_attempts=10
            ),
        ),
    )
    schedule.node.add_dependency(role)
    return schedule
