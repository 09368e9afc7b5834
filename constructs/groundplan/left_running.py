from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from groundplan.lambdas import function_of
from groundplan.log_group import log_group
from groundplan.permissions import allow
from groundplan.python_function import allow_key


class LeftRunning(Construct):
    """Publishes a daily list of running resources: notebook instances, training jobs, experiments' endpoints.

    It stops nothing, as users may still be working. If nothing runs, it publishes no message.

    :param name: name of the notebook instance. Names of the other resources begin with it and a hyphen.
    :param topic: SNS topic that the list is published to.
    :param dead_letters: the queue for events that EventBridge could not deliver to the function within a day.
    :param at: schedule as a cron expression in UTC. Default: 20:30 every day.
    :param log_retention: retention of the log of the construct's function. Default: one month.
    :param key: encrypts the log; must be the topic's key if the topic is encrypted. Default: none.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        topic: sns.ITopic,
        dead_letters: sqs.IQueue,
        at: str = "cron(30 20 * * ? *)",
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, id)
        log = log_group(self, "Log", retention=log_retention, key=key)
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log.grant_write(role)
        allow(role, "sns:Publish", on=[topic.topic_arn])
        allow_key(role, key)
        allow(
            role,
            "sagemaker:ListNotebookInstances",
            "sagemaker:ListTrainingJobs",
            "sagemaker:ListEndpoints",
            on=["*"],
            because="IAM knows no resource for a list; the handler tells only what has the name.",
        )
        self.function = function_of(
            self,
            "left_running",
            role=role,
            log=log,
            timeout=Duration.minutes(2),
            environment={"NAME": name, "TOPIC_ARN": topic.topic_arn},
            description=f"Tells what is left running under {name}",
        )
        """The function that publishes the list."""
        events.Rule(
            self,
            "Schedule",
            schedule=events.Schedule.expression(at),
            targets=[targets.LambdaFunction(self.function, dead_letter_queue=dead_letters)],
        )
