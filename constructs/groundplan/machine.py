from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from groundplan.log_group import log_group


def state_machine(
    scope: Construct,
    *,
    name: str,
    definition: Mapping[str, Any],
    role: iam.IRole,
    log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
    key: kms.IKey | None = None,
) -> sfn.StateMachine:
    """Create a state machine with tracing, and with a log without execution data.

    The ids of the state machine and of its log group are fixed, so each state machine needs a `scope` of its
    own.

    :param name: name of the state machine; its log group is `/aws/vendedlogs/states/NAME`.
    :param definition: the definition, as returned by `Flow.definition`.
    :param role: the state machine's role, which needs the permissions of the tasks.
    :param log_retention: retention of the log. Default: one month.
    :param key: encrypts the log. Default: CloudWatch Logs' own encryption.
    """
    return sfn.StateMachine(
        scope,
        "StateMachine",
        state_machine_name=name,
        # not Stack.to_json_string, which omits null values
        definition_body=sfn.DefinitionBody.from_string(json.dumps(definition)),
        role=role,
        tracing_enabled=True,
        logs=sfn.LogOptions(
            destination=log_group(
                scope, "Log", name=f"/aws/vendedlogs/states/{name}", retention=log_retention, key=key
            ),
            level=sfn.LogLevel.ALL,
            include_execution_data=False,
        ),
    )


def not_succeeded(machine: sfn.StateMachine, period: Duration | None = None) -> cloudwatch.IMetric:
    """Return the number of executions that failed or timed out."""
    period = period or Duration.minutes(5)
    return cloudwatch.MathExpression(
        expression="FILL(failed, 0) + FILL(timed_out, 0)",
        label="Executions that did not succeed",
        period=period,
        using_metrics={
            "failed": machine.metric_failed(period=period, statistic="Sum"),
            "timed_out": machine.metric_timed_out(period=period, statistic="Sum"),
        },
    )
