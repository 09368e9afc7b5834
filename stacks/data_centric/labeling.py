"""Labeling: the table of tasks, the functions, the state machine and the alarms."""

from __future__ import annotations

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from groundplan import (
    ArtifactBucket,
    Package,
    UserApi,
    acknowledge,
    allow,
    removal,
    state_machine,
)
from settings.data_centric import DataCentric
from stacks.data_centric import machines
from stacks.data_centric.functions import LabelingFunctions
from stacks.data_centric.tables import tasks_table

STEPS = ("Check", "Load", "Watch", "Consolidate")
"""The functions that the state machine calls."""


class LabelingRuns(Construct):
    """Labeling runs: labelers get tasks from `api`, and the state machine `label` runs them to the end.

    :param package: code, layer, dead-letter queue and key of the functions.
    :param bucket: has the items to label under `inputs/`, and gets the results under `labels/`.
    :param api: the API that labelers call.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: DataCentric,
        package: Package,
        bucket: ArtifactBucket,
        api: UserApi,
    ) -> None:
        super().__init__(scope, id)
        self.table = tasks_table(self, settings, package.key)
        """Runs, tasks and labelers."""
        secret = secretsmanager.Secret(
            self,
            "Pseudonyms",
            description="Key of the pseudonyms under which labelers appear in tables and reports",
            generate_secret_string=secretsmanager.SecretStringGenerator(
                password_length=64, exclude_punctuation=True
            ),
            encryption_key=package.key,
            removal_policy=removal(settings.retain),
        )
        acknowledge(
            secret,
            {"AwsSolutions-SMG4": "A rotated key would give labelers new names in the middle of a run."},
        )
        self.functions = LabelingFunctions(
            self,
            settings=settings,
            package=package,
            table=self.table,
            bucket=bucket,
            secret=secret,
        ).by_id
        """The functions by construct id."""
        api.serve(self.functions["ApiFunction"])
        arns = {step: self.functions[step].function.function_arn for step in STEPS}
        place = Construct(self, "Label")
        role = iam.Role(place, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        allow(role, "lambda:InvokeFunction", on=list(arns.values()))
        acknowledge(
            role,
            {"AwsSolutions-IAM5[Resource::*]": "IAM knows no resource for traces and the delivery of logs."},
        )
        self.label = state_machine(
            place,
            name=f"{Stack.of(self).stack_name}-label",
            definition=machines.label(settings, arns),
            role=role,
            log_retention=package.log_retention,
            key=package.key,
        )
        """The state machine that runs a labeling run."""
