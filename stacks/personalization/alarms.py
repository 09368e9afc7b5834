"""The CloudWatch alarms of the stack."""

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
        description=f"{id}: a user's request has waited for a training job for an hour. Read the log of the"
        " dispatcher: the usual cause is a quota of training instances that is 0 or in use.",
    )
    made.page_when(
        "RequestFailed",
        own("RequestsFailed", "Sum"),
        description=f"{id}: a user's model is FAILED after its last attempt, or because of its own input."
        " Read the reason of the model, and the log of its training job. The user can start it again.",
    )
    made.page_when(
        "DeadLetter",
        dead_letters.metric_approximate_number_of_messages_visible(statistic="Maximum"),
        description=f"{id}: a function could not process an event after all retries. The sweeper repeats the"
        " lost work. Read the message in the dead-letter queue and the function's log, then delete the"
        " message.",
    )
    made.page_when(
        "ApiFails",
        api.metric_server_errors(),
        description=f"{id}: the API answered a request with a 5xx status. Read the log of the API's function"
        " for the time of the alarm.",
    )
    made.page_when(
        "EndpointFails",
        endpoint.metric_server_errors(),
        description=f"{id}: the endpoint answered an invocation with a 5xx status; the user's pictures"
        " failed. Read the endpoint's log group.",
    )
    made.page_when(
        "EndpointSlow",
        endpoint.metric_latency(),
        above=SLOW_MICROSECONDS,
        description=f"{id}: 1 % of the invocations of the endpoint took longer than 25 s; the API waits for"
        " 29 s. If the load stays, raise max_instances.",
    )
    made.page_when_silent(
        "NoSweep",
        sweeper.metric_runs(Duration.minutes(max(5, settings.sweep_minutes))),
        description=f"{id}: the sweeper has not run for three periods, so lost events are not repaired. Read"
        " its log, and check that its EventBridge rule is enabled.",
    )
    return made
