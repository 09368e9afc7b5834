"""The tables: users, models, requests, jobs, generations."""

from __future__ import annotations

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from constructs import Construct

from groundplan import acknowledge, removal
from settings.personalization import Personalization


class Tables(Construct):
    """The five DynamoDB tables of the architecture.

    :param settings: deletion protection, retention and point-in-time recovery.
    :param key: encrypts the tables. Default: a key that DynamoDB owns.
    """

    def __init__(
        self, scope: Construct, id: str, *, settings: Personalization, key: kms.IKey | None = None
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._key = settings, key
        self.users = self._table("Users", "user")
        self.models = self._table("Models", "user", "model", stream=True)
        self.requests = self._table("Requests", "request", index=("queue", "status", "updated"), stream=True)
        self.jobs = self._table("Jobs", "job", index=("open", "status", "updated"))
        self.generations = self._table("Generations", "user", "generation", expires="expires")
        self.by_name = {
            "users": self.users,
            "models": self.models,
            "requests": self.requests,
            "jobs": self.jobs,
            "generations": self.generations,
        }
        """The tables by the name that the functions use."""

    def _table(
        self,
        id: str,
        partition: str,
        sort: str | None = None,
        *,
        index: tuple[str, str, str] | None = None,
        stream: bool = False,
        expires: str | None = None,
    ) -> dynamodb.Table:
        def key(name: str) -> dynamodb.Attribute:
            return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)

        table = dynamodb.Table(
            self,
            id,
            partition_key=key(partition),
            sort_key=key(sort) if sort else None,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute=expires,
            stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES if stream else None,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED if self._key else None,
            encryption_key=self._key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=self._settings.point_in_time_recovery
            ),
            deletion_protection=self._settings.deletion_protection,
            removal_policy=removal(self._settings.retain),
        )
        if index:
            name, *keys = index
            table.add_global_secondary_index(
                index_name=name, partition_key=key(keys[0]), sort_key=key(keys[1])
            )
        if not self._settings.point_in_time_recovery:
            acknowledge(
                table,
                {"AwsSolutions-DDB3": "A setting, point_in_time_recovery, off where data is for trial."},
            )
        return table
