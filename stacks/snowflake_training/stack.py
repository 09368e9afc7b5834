"""Train XGBoost straight from Snowflake on several instances, and serve the better model."""

from __future__ import annotations

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from groundplan import EmptySecret, Metric
from settings.snowflake_training import SnowflakeTraining
from stacks.models import ModelParts
from stacks.shared import CONTAINERS, docker_image

NAME = "snowflake_training"
CONTAINER = CONTAINERS / NAME / "train_and_serve"


class SnowflakeTrainingStack(Stack):
    def __init__(self, scope: Construct, id: str, *, env_name: str, settings: SnowflakeTraining) -> None:
        super().__init__(
            scope,
            id,
            description="Groundplan: XGBoost trained straight from Snowflake, served when it is better",
        )
        parts = ModelParts(
            self, settings, architecture=NAME, env_name=env_name, model="XGBoost trained from Snowflake"
        )
        secret = _secret(self, settings, parts.key)
        secret.grant_read(parts.training_role.role)
        workflow = parts.train_and_deploy(
            image=docker_image(self, "Image", CONTAINER),
            metric=Metric(name="rmse", minimum_improvement=settings.minimum_improvement),
            content_types=("text/csv", "application/json"),
            inputs={"table": settings.table, "target": settings.target},
            hyperparameters=settings.hyperparameters.as_texts(),
            fixed={"secret": settings.secret_name},
            logged=("rows:pulled", "rows:blank"),
        )
        parts.pager(workflow)
        if settings.notebook:
            secret.grant_read(parts.notebook(workflow).role)
            secret.grant_read(parts.experiments.training.role)
        CfnOutput(self, "SecretArn", value=secret.secret_arn)


def _secret(scope: Construct, settings: SnowflakeTraining, key: kms.IKey | None) -> secretsmanager.ISecret:
    """Return the secret with the Snowflake credentials: an existing one, or a new empty one."""
    if not settings.create_secret:
        return secretsmanager.Secret.from_secret_name_v2(scope, "Credentials", settings.secret_name)
    return EmptySecret(
        scope,
        "Credentials",
        name=settings.secret_name,
        description="Snowflake connection as JSON: account, user, private_key (PEM) or password,"
        " warehouse, database, schema, and optionally role, host, port",
        key=key,
        retain=settings.retain,
    ).secret
