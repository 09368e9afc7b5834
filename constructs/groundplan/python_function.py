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
"""How often a batch of a stream is tried, halved each time, before its records are put aside."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """What the functions of one architecture share: code, libraries, and where what they gave up goes."""

    code: lambda_.Code
    layers: Sequence[lambda_.ILayerVersion] = ()
    dead_letters: sqs.IQueue | None = None
    environment: Mapping[str, str] | None = None
    log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH
    key: kms.IKey | None = None
    """Encrypts the functions' variables and logs; None for the services' own keys."""


class PythonFunction(Construct):
    """A Lambda function in Python with a role of its own, which starts with its log and nothing else.

    What failed for good, of an event or of a stream, goes to the package's queue of dead letters.

    :param package: the code, and what else its functions share.
    :param handler: `module.function`, such as `shop.orders.handler`.
    :param description: what it does.
    :param environment: its variables, besides the package's.
    :param timeout: how long one call may take. Default: 30 seconds.
    :param memory_mb: its memory, and its share of a processor with it. Default: 256.
    :param reserved_concurrency: executions at once that are reserved for it, and its limit. Default: none.
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
        """The role itself; `groundplan.allow` grants it something."""
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
        """The function itself."""

    def on_changes(
        self, id: str, table: dynamodb.Table, patterns: Sequence[Mapping[str, Any]], *, batch: int = 100
    ) -> None:
        """Run on the changes of `table` that match one of `patterns` (as of `Records[]`), oldest first.

        The function may return a partial batch response (`batchItemFailures`): the batch is then delivered
        again from the first failed record on. A batch for which it raises is halved and delivered again.
        Records that fail `RETRIES` times more, or are older than a day, become a dead letter.
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
        # Lambda asks what the role may do when the mapping is made
        mapping.node.add_dependency(self.role)

    def on_events(
        self, id: str, pattern: events.EventPattern, *, input: events.RuleTargetInput | None = None
    ) -> None:
        """Run on every event of the account's bus that matches; tried for a day, then a dead letter."""
        events.Rule(self, id, event_pattern=pattern, targets=[self._target(input)])

    def every(self, id: str, interval: Duration) -> None:
        """Run regularly."""
        events.Rule(self, id, schedule=events.Schedule.rate(interval), targets=[self._target(None)])

    def metric_errors(self, period: Duration | None = None) -> cloudwatch.Metric:
        """Calls that ended in an exception."""
        return self.function.metric_errors(statistic="Sum", period=period or Duration.minutes(5))

    def metric_runs(self, period: Duration) -> cloudwatch.Metric:
        """Calls."""
        return self.function.metric_invocations(statistic="Sum", period=period)

    def _target(self, input: events.RuleTargetInput | None) -> targets.LambdaFunction:
        return targets.LambdaFunction(
            self.function, event=input, dead_letter_queue=self._package.dead_letters
        )


def allow_key(grantee: iam.IGrantable, key: kms.IKey | None) -> None:
    """Let `grantee` read and write what a service encrypts with `key` for it; nothing without one."""
    if key:
        key.grant(grantee, "kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey")
