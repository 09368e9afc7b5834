"""The alarms and the dashboard."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from groundplan import HttpApi, ModelPipeline, Pager, not_succeeded
from settings.power_bidding import PowerBidding

METRICS = "Groundplan"
"""CloudWatch namespace of the functions' custom metrics."""
HOUR = Duration.hours(1)


def watch(
    scope: Construct,
    *,
    settings: PowerBidding,
    key: kms.IKey | None,
    letters: sqs.IQueue,
    machines: Mapping[str, sfn.StateMachine],
    pipeline: ModelPipeline,
    api: HttpApi,
) -> Pager:
    """Create the alarm topic, the alarms and the dashboard. `machines` are by construct id."""
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
    for machine, each in machines.items():
        pager.page_when(
            f"{machine}Failed", not_succeeded(each), description=f"{id}: {each.node.path} did not succeed"
        )
    for alarm, metric, what in (
        ("HourIncomplete", own("IncompleteHours"), "an hour has no price, and none could be interpolated"),
        ("FeedMissing", own("MissingFeeds"), "a feed of an hour did not come"),
        ("FellBack", own("FallbackHours"), "an earlier offer had to do for an hour"),
        ("NoOffer", own("NoOfferHours"), "there was no offer for an hour"),
        ("RetrainingFailed", pipeline.metric_failed(), "a retraining failed; the model in service bids on"),
        (
            "DeadLetter",
            letters.metric_approximate_number_of_messages_visible(statistic="Maximum"),
            "an event was given up",
        ),
        ("ApiFails", api.metric_server_errors(), "the API answers with 5xx"),
    ):
        pager.page_when(alarm, metric, description=f"{id}: {what}")
    if settings.scheduled:
        pager.page_when_silent(
            "NoRun",
            machines["Bid"].metric_succeeded(period=HOUR, statistic="Sum"),
            description=f"{id}: no offers are made",
        )
    board = cloudwatch.Dashboard(scope, "Dashboard", dashboard_name=id, default_interval=Duration.days(7))
    board.add_widgets(
        cloudwatch.GraphWidget(
            title="Offers of an hour",
            left=[own(name) for name in ("OffersSent", "FallbackHours", "NoOfferHours")],
        ),
        cloudwatch.GraphWidget(
            title="Feeds", left=[own("MissingFeeds"), own("InterpolatedHours"), own("IncompleteHours")]
        ),
        cloudwatch.GraphWidget(title="Age of the feeds in hours", left=[own("FeedAgeHours", "Maximum")]),
        cloudwatch.GraphWidget(
            title="Share of perfect foresight of each new model", left=[own("Capture", "Average")]
        ),
    )
    return pager
