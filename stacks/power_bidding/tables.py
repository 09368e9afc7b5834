"""The DynamoDB tables: hours, history, bids, waits."""

from __future__ import annotations

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from constructs import Construct

from groundplan import acknowledge, removal


class BidTables(Construct):
    """The DynamoDB tables by name.

    :param retain: whether the tables remain when the stack is deleted, and have point-in-time recovery.
    :param deletion_protection: whether DynamoDB refuses to delete them. With it, a failed first deployment
        cannot be rolled back.
    :param key: encrypts the tables. Default: a key that DynamoDB owns.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        retain: bool,
        deletion_protection: bool = False,
        key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, id)
        self._retain, self._protected, self._key = retain, deletion_protection, key
        self.by_name = {
            "hours": self._table("Hours", "hour"),
            "history": self._table("History", "location", "day"),
            "bids": self._table("Bids", "asset", "offer"),
            "waits": self._table("Waits", "request", expires="expires"),
        }

    def _table(
        self, id: str, partition: str, sort: str | None = None, *, expires: str | None = None
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
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED if self._key else None,
            encryption_key=self._key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=self._retain
            ),
            deletion_protection=self._protected,
            removal_policy=removal(self._retain),
        )
        if not self._retain:
            acknowledge(table, {"AwsSolutions-DDB3": "Recovery is on where data is retained."})
        return table
