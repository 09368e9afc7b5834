"""The CloudWatch alarms and the dashboard."""

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
    """Create the alarm topic, the alarms and the dashboard. `machines`: state machines by construct id."""
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
            f"{machine}Failed",
            not_succeeded(each),
            description=f"{id}: an execution of the state machine {machine} failed or timed out. Read its"
            " error and cause, and start it again for the same hour: an offer that was sent is not changed.",
        )
    for alarm, metric, what in (
        (
            "HourIncomplete",
            own("IncompleteHours"),
            "an hour has no price, and none could be interpolated. Offers use the data there is. Check the"
            " feed of prices.",
        ),
        (
            "FeedMissing",
            own("MissingFeeds"),
            "a feed did not deliver the data of an hour; earlier or interpolated values replace it. Check the"
            " feed and its credentials.",
        ),
        (
            "FellBack",
            own("FallbackHours"),
            "no new offer could be made for an hour, so an earlier offer for this hour was sent. Read the"
            " execution of Bid and the endpoint's log.",
        ),
        (
            "NoOffer",
            own("NoOfferHours"),
            "no offer was sent for an hour. Read the execution of Bid; the reason stands with the offer in"
            " the table and in GET /bids.",
        ),
        (
            "RetrainingFailed",
            pipeline.metric_failed(),
            "a retraining failed; offers use the model in service. Read the steps of the pipeline's"
            " execution; to train at once, start Prepare with retrain true.",
        ),
        (
            "DeadLetter",
            letters.metric_approximate_number_of_messages_visible(statistic="Maximum"),
            "a function or a scheduled execution failed after all retries. Read the message in the"
            " dead-letter queue, run the hour that it names again, and delete the message.",
        ),
        (
            "ApiFails",
            api.metric_server_errors(),
            "the API answered a request with a 5xx status. Offers are not"
            " affected. Read the log of the API's function.",
        ),
    ):
        pager.page_when(alarm, metric, description=f"{id}: {what}")
    if settings.scheduled:
        pager.page_when_silent(
            "NoRun",
            machines["Bid"].metric_succeeded(period=HOUR, statistic="Sum"),
            description=f"{id}: no execution of Bid has succeeded for three hours, so no offers are made."
            " Check that the schedule is enabled, and read the latest executions.",
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
