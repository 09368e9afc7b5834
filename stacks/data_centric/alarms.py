"""The CloudWatch alarms and the dashboard."""

from __future__ import annotations

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from groundplan import Pager, UserApi, not_succeeded
from settings.data_centric import DataCentric
from stacks.data_centric.examine import Examination
from stacks.data_centric.sweep import Sweep

METRICS = "Groundplan"
"""CloudWatch namespace of the functions' custom metrics."""
HOUR = Duration.hours(1)
LATE = 0.75
"""Share of a run's maximum duration after which its operator is paged."""


def watch(
    scope: Construct,
    *,
    settings: DataCentric,
    key: kms.IKey | None,
    letters: sqs.IQueue,
    label: sfn.StateMachine,
    examination: Examination,
    sweep: Sweep,
    api: UserApi,
) -> Pager:
    """Create the alarm topic, the alarms and the dashboard."""
    id = Stack.of(scope).stack_name

    def own(name: str, statistic: str = "Sum") -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=METRICS,
            metric_name=name,
            statistic=statistic,
            period=HOUR,
            dimensions_map={"service": id},
        )

    pager = Pager(scope, "Pager", email=settings.alarm_email or None, key=key)
    late = int(LATE * 3600 * settings.labeling.most_hours)
    for alarm, metric, above, what in (
        (
            "LabelFailed",
            not_succeeded(label),
            0,
            "an execution of Label failed or timed out. Read its error and cause. Answers that labelers have"
            " given are stored.",
        ),
        (
            "ExamineFailed",
            not_succeeded(examination.state_machine),
            0,
            "an execution of Examine failed or timed out. Read its cause: the exit message of the processing"
            " job.",
        ),
        (
            "SweepFailed",
            sweep.metric_not_succeeded(),
            0,
            "an execution of Sweep failed or timed out. Read its error and cause, and start it again.",
        ),
        (
            "RunIncomplete",
            own("IncompleteRuns"),
            0,
            "a labeling run ended after most_hours without all its labels. Its manifest has the labels so"
            " far; start another run for the rest.",
        ),
        (
            "RunLate",
            own("OldestOpenSeconds", "Maximum"),
            late,
            "a labeling run has used three quarters of most_hours and has open tasks. Ask more labelers to"
            " join.",
        ),
        (
            "DeadLetter",
            letters.metric_approximate_number_of_messages_visible(statistic="Maximum"),
            0,
            "a function could not process an event after all retries. Read the message in the dead-letter"
            " queue and the function's log, then delete the message.",
        ),
        (
            "ApiFails",
            api.metric_server_errors(),
            0,
            "the API answered a request with a 5xx status. Read the log of the API's function.",
        ),
    ):
        pager.page_when(alarm, metric, above=above, description=f"{id}: {what}")
    board = cloudwatch.Dashboard(scope, "Dashboard", dashboard_name=id, default_interval=Duration.days(7))
    board.add_widgets(
        cloudwatch.GraphWidget(title="Answers", left=[own("Answers"), own("ExtraLabels")]),
        cloudwatch.GraphWidget(title="Open tasks", left=[own("OpenTasks", "Maximum")]),
        cloudwatch.GraphWidget(
            title="Age of the oldest run with open tasks, in seconds",
            left=[own("OldestOpenSeconds", "Maximum")],
        ),
        cloudwatch.GraphWidget(
            title="Disagreement", left=[own("DisputedItems", "Maximum"), own("BlockedLabelers", "Maximum")]
        ),
    )
    return pager
