"""Sweeps: train with several strategies, fractions and seeds, compare, recommend a fraction."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from groundplan import (
    ArtifactBucket,
    Package,
    PythonFunction,
    allow,
    not_succeeded,
    physical_name,
    state_machine,
)
from stacks.data_centric.sweep_machine import LONGEST_SUFFIX, SweepJobs, sweep, volume_key

STRATEGIES = {
    "full": False,
    "fewer_epochs": True,
    "adaptive_random": True,
    "glister": True,
    "glister_published": True,
    "glister_stochastic": True,
    "craig": True,
    "craig_stochastic": True,
    "gradmatch": True,
    "gradmatch_pb": True,
    "infobatch": False,
    "milo": True,
}
"""Strategies of the training image, and whether each takes a fraction."""
RESERVED = ("strategy", "fraction", "seeds")
"""Hyperparameters that the sweep itself sets."""
MOST_JOBS = 200
"""Their outcomes must fit into an execution's 256 KB."""
MOST_SEEDS = 100
"""Seeds that the training image accepts."""


class Sweep(Construct):
    """A state machine that runs sweeps, and its functions.

    :param jobs: how the training jobs run.
    :param hyperparameters: names of the image's hyperparameters; those in `RESERVED` are ignored.
    :param bucket: has the datasets, takes the results: see `runtime/data_centric/core/sweep_files.py`.
    :param package: code of the functions.
    :param tags: put on the jobs. Default: none.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        jobs: SweepJobs,
        hyperparameters: tuple[str, ...],
        bucket: ArtifactBucket,
        package: Package,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(scope, id)
        # The stack's name, and a word: the labeling state machine has one of its own
        name = physical_name(self, f"{Stack.of(self).stack_name}-sweep", appended=LONGEST_SUFFIX)
        self.name = name
        """Name of the state machine, and prefix of the jobs' names."""
        settings = {
            "strategies": STRATEGIES,
            "hyperparameters": [each for each in hyperparameters if each not in RESERVED],
            "most_jobs": MOST_JOBS,
            "most_seeds": MOST_SEEDS,
            "most_seconds": jobs.seconds,
            "instance_type": jobs.instance_type,
        }
        variables = {"BUCKET": bucket.bucket.bucket_name, "SWEEP": json.dumps(settings)}
        self.plan = self._function(
            "Plan", "Checks a sweep, lists its jobs, estimates its cost", variables, package
        )
        self.compare = self._function(
            "Compare", "Compares the runs of a sweep, recommends a fraction", variables, package
        )
        for function in (self.plan, self.compare):
            bucket.grant_read(function.role, "sweeps")
            bucket.grant_write(function.role, "sweeps")
        bucket.grant_read(self.plan.role, "datasets")
        bucket.grant_read(self.compare.role, "training")
        allow(
            self.plan.role,
            "pricing:GetProducts",
            on=["*"],
            because="IAM knows no resource for these calls: prices.",
        )
        for folder in ("datasets", "checkpoints"):
            bucket.grant_read(jobs.role.role, folder)
        for folder in ("training", "checkpoints"):
            bucket.grant_write(jobs.role.role, folder)
        jobs.image.repository.grant_pull(jobs.role.role)
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        self._allow(role, jobs, bucket)
        self.state_machine = state_machine(
            self,
            name=name,
            definition=sweep(
                jobs,
                name=name,
                bucket=bucket,
                plan=self.plan.function.function_arn,
                compare=self.compare.function.function_arn,
                tags=tags or {},
            ),
            role=role,
            log_retention=log_retention,
            key=bucket.key,
        )
        """The state machine itself."""

    def grant_start(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` start sweeps."""
        return self.state_machine.grant_start_execution(grantee)

    def metric_not_succeeded(self, period: Duration | None = None) -> cloudwatch.IMetric:
        """Return how many sweeps failed or ran out of time."""
        return not_succeeded(self.state_machine, period)

    def _function(self, id: str, does: str, variables: Mapping[str, str], package: Package) -> PythonFunction:
        return PythonFunction(
            self,
            id,
            package=package,
            handler=f"data_centric.handlers.sweep_{id.lower()}.handler",
            description=does,
            environment=variables,
            timeout=Duration.minutes(10),
            memory_mb=1024,
        )

    def _allow(self, role: iam.Role, jobs: SweepJobs, bucket: ArtifactBucket) -> None:
        """Grant what the calls of the state machine need, on what begins with its name."""
        stack = Stack.of(self)
        own = stack.format_arn(service="sagemaker", resource="training-job", resource_name=f"{self.name}-*")
        actions = ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "AddTags", "ListTags")
        allow(
            role,
            *(f"sagemaker:{action}" for action in actions),
            on=[own],
            because="Each execution names its jobs after itself.",
        )
        rule = stack.format_arn(
            service="events",
            resource="rule",
            resource_name="StepFunctionsGetEventsForSageMakerTrainingJobsRule",
            arn_format=ArnFormat.SLASH_RESOURCE_NAME,
        )
        # How Step Functions receives the end of a job
        allow(role, "events:PutTargets", "events:PutRule", "events:DescribeRule", on=[rule])
        functions = [each.function.function_arn for each in (self.plan, self.compare)]
        allow(role, "lambda:InvokeFunction", on=functions)
        jobs.role.grant_pass(role)
        if volumes := volume_key(jobs, bucket):
            # SageMaker encrypts a job's volume through a KMS grant, which the job's creator makes
            allow(
                role,
                "kms:CreateGrant",
                on=[volumes],
                only_if={"Bool": {"kms:GrantIsForAWSResource": "true"}},
            )
