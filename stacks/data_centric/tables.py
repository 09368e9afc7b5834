"""Data of labeling: the table of runs and tasks, and the key of the labelers' pseudonyms."""

from __future__ import annotations

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from groundplan import acknowledge, removal
from settings.data_centric import DataCentric

INDEX = "due"
"""Index of tasks that need labels, by availability, and of open runs."""


def tasks_table(scope: Construct, settings: DataCentric, key: kms.IKey | None) -> dynamodb.Table:
    """Create the table `Tasks`. A run, its tasks and its labelers share a partition key."""

    def attribute(
        name: str, kind: dynamodb.AttributeType = dynamodb.AttributeType.STRING
    ) -> dynamodb.Attribute:
        return dynamodb.Attribute(name=name, type=kind)

    table = dynamodb.Table(
        scope,
        "Tasks",
        partition_key=attribute("run"),
        sort_key=attribute("row"),
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
        encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED if key else None,
        encryption_key=key,
        point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
            point_in_time_recovery_enabled=settings.point_in_time_recovery
        ),
        deletion_protection=settings.deletion_protection,
        removal_policy=removal(settings.retain),
    )
    table.add_global_secondary_index(
        index_name=INDEX,
        partition_key=attribute("queue"),
        sort_key=attribute("due", dynamodb.AttributeType.NUMBER),
        projection_type=dynamodb.ProjectionType.INCLUDE,
        non_key_attributes=["answers"],
    )
    if not settings.point_in_time_recovery:
        acknowledge(
            table, {"AwsSolutions-DDB3": "A setting, point_in_time_recovery, off where data is for trial."}
        )
    return table


def pseudonym_key(scope: Construct, settings: DataCentric, key: kms.IKey | None) -> secretsmanager.Secret:
    """Create the secret `Pseudonyms`, from which labelers' pseudonyms are derived."""
    secret = secretsmanager.Secret(
        scope,
        "Pseudonyms",
        description="Key of the pseudonyms under which labelers appear in tables and reports",
        generate_secret_string=secretsmanager.SecretStringGenerator(
            password_length=64, exclude_punctuation=True
        ),
        encryption_key=key,
        removal_policy=removal(settings.retain),
    )
    acknowledge(
        secret, {"AwsSolutions-SMG4": "A rotated key would give labelers new names in the middle of a run."}
    )
    return secret
