"""The alarms of the stack."""

from __future__ import annotations

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from groundplan import MultiModelEndpoint, Pager, PythonFunction, UserApi
from settings.personalization import Personalization

METRICS = "Groundplan"
"""CloudWatch namespace of the functions' custom metrics."""

SLOW_MICROSECONDS = 25_000_000
"""Threshold for the 99th percentile of the endpoint's latency. The API times out after 29 s."""


def pager(
    scope: Construct,
    *,
    settings: Personalization,
    key: kms.IKey | None,
    dead_letters: sqs.IQueue,
    api: UserApi,
    endpoint: MultiModelEndpoint,
    sweeper: PythonFunction,
) -> Pager:
    """Create the alarm topic and the seven alarms."""
    id = Stack.of(scope).stack_name

    def own(name: str, statistic: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=METRICS,
            metric_name=name,
            statistic=statistic,
            period=Duration.minutes(5),
            dimensions_map={"service": id},
        )

    made = Pager(scope, "Pager", email=settings.alarm_email or None, key=key)
    made.page_when(
        "QueueStandsStill",
        own("OldestQueuedSeconds", "Maximum"),
        above=3600,
        description=f"{id}: a request has waited for an hour",
    )
    made.page_when("RequestFailed", own("RequestsFailed", "Sum"), description=f"{id}: a fine-tune failed")
    made.page_when(
        "DeadLetter",
        dead_letters.metric_approximate_number_of_messages_visible(statistic="Maximum"),
        description=f"{id}: an event was given up",
    )
    made.page_when("ApiFails", api.metric_server_errors(), description=f"{id}: the API answers with 5xx")
    made.page_when(
        "EndpointFails",
        endpoint.metric_server_errors(),
        description=f"{id}: the endpoint answers with 5xx",
    )
    made.page_when(
        "EndpointSlow",
        endpoint.metric_latency(),
        above=SLOW_MICROSECONDS,
        description=f"{id}: one generation in a hundred takes longer than 25 s, and the API waits for 29",
    )
    made.page_when_silent(
        "NoSweep",
        sweeper.metric_runs(Duration.minutes(max(5, settings.sweep_minutes))),
        description=f"{id}: the sweeper does not run",
    )
    return made
