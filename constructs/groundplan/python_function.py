from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from groundplan.log_group import log_group
from groundplan.permissions import allow

RETRIES = 10
"""Number of times that Lambda retries a failed batch of stream records; halving a batch does not count."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """Code, layers, dead-letter queue and settings that several functions share."""

    code: lambda_.Code
    """The functions' code."""
    layers: Sequence[lambda_.ILayerVersion] = ()
    """The functions' layers. Default: none."""
    dead_letters: sqs.IQueue | None = None
    """Queue for events and stream records that failed after all retries. Default: none, these
    events and records are lost."""
    environment: Mapping[str, str] | None = None
    """Environment variables of all functions. Default: none."""
    log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH
    """Retention of the functions' logs. Default: one month."""
    key: kms.IKey | None = None
    """Encrypts the functions' environment variables and logs. Default: the keys of Lambda and
    CloudWatch Logs."""


class PythonFunction(Construct):
    """A Python Lambda function with its own role, which initially may only write the function's log.

    Events and stream records that failed after all retries go to the package's dead-letter queue.

    :param package: the code and settings that the function shares with other functions.
    :param handler: `module.function`, such as `shop.orders.handler`.
    :param description: description of the function and its role.
    :param environment: environment variables in addition to the package's. Default: none.
    :param timeout: timeout of an invocation. Default: 30 seconds.
    :param memory_mb: memory in MB, which also determines the function's share of a CPU. Default: 256.
    :param reserved_concurrency: concurrency that is reserved for the function, and that it cannot exceed.
        Default: none.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        package: Package,
        handler: str,
        description: str,
        environment: Mapping[str, str] | None = None,
        timeout: Duration | None = None,
        memory_mb: int = 256,
        reserved_concurrency: int | None = None,
    ) -> None:
        super().__init__(scope, id)
        self._package = package
        log = log_group(self, "Log", retention=package.log_retention, key=package.key)
        self.role = iam.Role(
            self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"), description=description
        )
        """The function's role. Use `groundplan.allow` to grant it permissions."""
        log.grant_write(self.role)
        self.function = lambda_.Function(
            self,
            "Function",
            code=package.code,
            handler=handler,
            description=description,
            runtime=lambda_.Runtime.PYTHON_3_14,
            architecture=lambda_.Architecture.ARM_64,
            layers=list(package.layers) or None,
            environment={**(package.environment or {}), **(environment or {})},
            timeout=timeout or Duration.seconds(30),
            memory_size=memory_mb,
            reserved_concurrent_executions=reserved_concurrency,
            role=self.role,
            log_group=log,
            environment_encryption=package.key,
            dead_letter_queue=package.dead_letters,
        )
        """The Lambda function."""

    def on_changes(
        self, id: str, table: dynamodb.Table, patterns: Sequence[Mapping[str, Any]], *, batch: int = 100
    ) -> None:
        """Invoke the function with the changes of `table` that match one of `patterns`, oldest first.

        Each pattern is compared with single records, in the form that they have in the event's `Records`. The
        function may return a partial batch response (`batchItemFailures`): the batch is then delivered again
        from the first failed record. If the function raises, the batch is halved and delivered again. Records
        that fail `RETRIES` more times, or are older than a day, become a dead letter. Raises `ValueError` if
        the table has no stream.
        """
        stream = table.table_stream_arn
        if stream is None:
            raise ValueError(f"table {table.node.path} has no stream")
        allow(
            self.role,
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            on=[stream],
        )
        allow(
            self.role,
            "dynamodb:ListStreams",
            on=[f"{table.table_arn}/stream/*"],
            because="A stream is named after the second in which it was made; the table is the grant.",
        )
        allow_key(self.role, table.encryption_key)
        mapping = lambda_.CfnEventSourceMapping(
            self,
            id,
            function_name=self.function.function_name,
            event_source_arn=stream,
            starting_position="TRIM_HORIZON",
            batch_size=batch,
            bisect_batch_on_function_error=True,
            function_response_types=["ReportBatchItemFailures"],
            maximum_retry_attempts=RETRIES,
            maximum_record_age_in_seconds=86_400,
            filter_criteria={
                "filters": [{"pattern": json.dumps(pattern, sort_keys=True)} for pattern in patterns],
            },
            destination_config={"onFailure": {"destination": self._package.dead_letters.queue_arn}}
            if self._package.dead_letters
            else None,
        )
        # Lambda checks the role's permissions when it creates the mapping, so the role must exist before
        mapping.node.add_dependency(self.role)

    def on_events(
        self, id: str, pattern: events.EventPattern, *, input: events.RuleTargetInput | None = None
    ) -> None:
        """Invoke the function with matching events of the account's default event bus.

        `input` replaces the event that the function gets. By default the function gets the event itself.
        """
        events.Rule(self, id, event_pattern=pattern, targets=[self._target(input)])

    def every(self, id: str, interval: Duration) -> None:
        """Invoke the function at an interval."""
        events.Rule(self, id, schedule=events.Schedule.rate(interval), targets=[self._target(None)])

    def metric_errors(self, period: Duration | None = None) -> cloudwatch.Metric:
        """Return the number of invocations that failed in `period`, five minutes by default."""
        return self.function.metric_errors(statistic="Sum", period=period or Duration.minutes(5))

    def metric_runs(self, period: Duration) -> cloudwatch.Metric:
        """Return the number of invocations in `period`."""
        return self.function.metric_invocations(statistic="Sum", period=period)

    def _target(self, input: events.RuleTargetInput | None) -> targets.LambdaFunction:
        return targets.LambdaFunction(
            self.function, event=input, dead_letter_queue=self._package.dead_letters
        )


def allow_key(grantee: iam.IGrantable, key: kms.IKey | None) -> None:
    """Let `grantee` use `key` for data that a service encrypts for the grantee; None grants nothing."""
    if key:
        key.grant(grantee, "kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey")
