from __future__ import annotations

from aws_cdk import ArnFormat, Aws, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from groundplan.permissions import acknowledge


class Pager(Construct):
    """An SNS topic, and the alarms that publish to it.

    :param email: e-mail address to subscribe to the topic; SNS sends it a confirmation link. Default: none.
    :param key: encrypts the messages. Default: only SNS's disk encryption; messages of alarms contain no user
        data.
    """

    def __init__(
        self, scope: Construct, id: str, *, email: str | None = None, key: kms.IKey | None = None
    ) -> None:
        super().__init__(scope, id)
        self.topic = sns.Topic(self, "Topic", enforce_ssl=True, master_key=key)
        """The SNS topic."""
        alarms = iam.ServicePrincipal("cloudwatch.amazonaws.com")
        # a topic policy replaces the default one, which allows the account's alarms to publish
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sns:Publish"],
                principals=[alarms],
                resources=[self.topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
        if key:
            # A service that publishes to an encrypted topic needs these permissions on the key:
            # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
            own = Stack.of(self).format_arn(
                service="cloudwatch",
                resource="alarm",
                resource_name="*",
                arn_format=ArnFormat.COLON_RESOURCE_NAME,
            )
            conditions = {
                "StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID},
                "ArnLike": {"aws:SourceArn": own},
            }
            key.grant(alarms.with_conditions(conditions), "kms:Decrypt", "kms:GenerateDataKey*")
        else:
            acknowledge(
                self.topic, {"AwsSolutions-SNS2": "CloudWatch cannot publish to a topic under AWS's own key."}
            )
        if email:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))

    def page_when(
        self, id: str, metric: cloudwatch.IMetric, *, description: str, above: float = 0
    ) -> cloudwatch.Alarm:
        """Create an alarm that is raised if `metric` exceeds `above` in a period. Missing data does not raise
        the alarm."""
        alarm = cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            alarm_description=description,
            threshold=above,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))
        return alarm

    def page_when_silent(self, id: str, metric: cloudwatch.IMetric, *, description: str) -> cloudwatch.Alarm:
        """Create an alarm that is raised if `metric`, a count, is 0 or missing for three periods."""
        alarm = cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            alarm_description=description,
            threshold=1,
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            evaluation_periods=3,
            treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))
        return alarm
