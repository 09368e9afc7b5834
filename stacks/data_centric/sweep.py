"""Sweeps: train with several strategies, fractions and seeds, compare them, and recommend a fraction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from aws_cdk import ArnFormat, Aws, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from groundplan import (
    ArtifactBucket,
    Package,
    PythonFunction,
    acknowledge,
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
"""Strategies of the training image, and whether each supports fractions below 1."""
HYPERPARAMETERS = (
    "epochs",
    "model",
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "augment",
    "precision",
    "recipe",
    "interval",
    "outputs",
    "validation_sample",
    "rounds",
    "epsilon",
    "match_batch",
    "penalty",
    "pruned",
    "annealed",
    "validation_fraction",
    "side",
    "grey",
    "most_unreadable",
    "checkpoint_every",
    "threads",
    "timeout",
)
"""Hyperparameters of the training image that a sweep's input may set. The sweep itself sets all others."""
MOST_JOBS = 200
"""Maximum number of jobs. Their outcomes must fit into 256 KB, Step Functions' limit of a state's output."""
MOST_SEEDS = 100
"""Maximum number of seeds that the training image accepts."""


class SweepFunctions:
    """The functions of sweeps, created in `scope`, each with a role of least privilege.

    :param jobs: settings of the training jobs.
    :param bucket: the bucket of datasets and results, see `runtime/data_centric/core/sweep_files.py`.
    :param package: code of the functions.
    """

    def __init__(
        self, scope: Construct, *, jobs: SweepJobs, bucket: ArtifactBucket, package: Package
    ) -> None:
        settings = {
            "strategies": STRATEGIES,
            "hyperparameters": HYPERPARAMETERS,
            "most_jobs": MOST_JOBS,
            "most_seeds": MOST_SEEDS,
            "at_once": jobs.at_once,
            "most_seconds": jobs.seconds,
            "instance_type": jobs.instance_type,
            "hosts": jobs.hosts,
        }
        variables = {"BUCKET": bucket.bucket.bucket_name, "SWEEP": json.dumps(settings)}

        def function(step: str, does: str) -> PythonFunction:
            return PythonFunction(
                scope,
                f"Sweep{step}",
                package=package,
                handler=f"data_centric.handlers.sweep_{step.lower()}.handler",
                description=does,
                environment=variables,
                timeout=Duration.minutes(10),
                memory_mb=1024,
            )

        self.plan = function("Plan", "Checks a sweep, lists its jobs, estimates its cost")
        self.compare = function("Compare", "Compares the runs of a sweep, recommends a fraction")
        for each in (self.plan, self.compare):
            bucket.grant_read(each.role, "sweeps")
            bucket.grant_write(each.role, "sweeps")
        bucket.grant_read(self.plan.role, "datasets")
        bucket.grant_read(self.compare.role, "training")
        allow(
            self.plan.role,
            "pricing:GetProducts",
            on=["*"],
            because="IAM knows no resource for these calls: prices.",
        )


class Sweep(Construct):
    """A state machine that runs sweeps.

    :param jobs: settings of the training jobs.
    :param functions: the functions that it invokes.
    :param bucket: the bucket of datasets and results.
    :param tracking: whether runs are also logged to an MLflow app. Default: False.
    :param tags: tags of the jobs. Default: none.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        jobs: SweepJobs,
        functions: SweepFunctions,
        bucket: ArtifactBucket,
        tracking: bool = False,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(scope, id)
        # with a suffix, because the stack also has a state machine for labeling
        name = physical_name(self, f"{Stack.of(self).stack_name}-sweep", appended=LONGEST_SUFFIX)
        self.name = name
        """Name of the state machine, and prefix of the jobs' names."""
        # a tuning job's name has at most 32 characters, including 13 of the execution's suffix
        self.search_name = f"sweep-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        """Prefix of the names of tuning jobs and their training jobs."""
        self._functions = functions
        for folder in ("datasets", "checkpoints"):
            bucket.grant_read(jobs.role.role, folder)
        for folder in ("training", "checkpoints"):
            bucket.grant_write(jobs.role.role, folder)
        jobs.image.repository.grant_pull(jobs.role.role)
        if tracking:
            self._track(bucket)
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        self._allow(role, jobs, bucket)
        acknowledge(
            role,
            {"AwsSolutions-IAM5[Resource::*]": "IAM knows no resource for traces and the delivery of logs."},
        )
        self.state_machine = state_machine(
            self,
            name=name,
            definition=sweep(
                jobs,
                name=name,
                search=self.search_name,
                bucket=bucket,
                plan=functions.plan.function.function_arn,
                compare=functions.compare.function.function_arn,
                tags=tags or {},
            ),
            role=role,
            log_retention=log_retention,
            key=bucket.key,
        )
        """The state machine."""

    def grant_start(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` start sweeps."""
        return self.state_machine.grant_start_execution(grantee)

    def metric_not_succeeded(self, period: Duration | None = None) -> cloudwatch.IMetric:
        """Return the number of sweeps that failed or timed out."""
        return not_succeeded(self.state_machine, period)

    def _track(self, bucket: ArtifactBucket) -> None:
        """Add the MLflow app, and let the compare function log runs to it."""
        role = iam.Role(
            self,
            "TrackingRole",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
            ),
            description="Lets the MLflow app store artifacts",
        )
        bucket.grant_read(role, "mlflow")
        bucket.grant_write(role, "mlflow")
        app = sagemaker.CfnMlflowApp(
            self,
            "Tracking",
            name=self.name,
            artifact_store_uri=bucket.url("mlflow"),
            role_arn=role.role_arn,
        )
        app.node.add_dependency(role)
        self._functions.compare.function.add_environment("MLFLOW_APP_ARN", app.attr_arn)
        allow(self._functions.compare.role, "sagemaker:CallMlflowAppApi", on=[app.attr_arn])

    def _arn(self, kind: str, prefix: str) -> str:
        return Stack.of(self).format_arn(service="sagemaker", resource=kind, resource_name=f"{prefix}-*")

    def _allow(self, role: iam.Role, jobs: SweepJobs, bucket: ArtifactBucket) -> None:
        """Allow the state machine's calls, on resources whose names begin with its name."""
        own = "Each execution names its jobs after itself."
        tuning = self._arn("hyper-parameter-tuning-job", self.search_name)
        for kind, on in (
            ("TrainingJob", self._arn("training-job", self.name)),
            ("HyperParameterTuningJob", tuning),
        ):
            actions = (f"Create{kind}", f"Describe{kind}", f"Stop{kind}", "AddTags", "ListTags")
            allow(role, *(f"sagemaker:{action}" for action in actions), on=[on], because=own)
        allow(
            self._functions.compare.role,
            "sagemaker:ListTrainingJobsForHyperParameterTuningJob",
            on=[tuning],
            because=own,
        )
        searched = self._arn("training-job", self.search_name)
        allow(self._functions.compare.role, "sagemaker:DescribeTrainingJob", on=[searched], because=own)
        rules = [
            Stack.of(self).format_arn(
                service="events",
                resource="rule",
                resource_name=f"StepFunctionsGetEventsForSageMaker{kind}JobsRule",
                arn_format=ArnFormat.SLASH_RESOURCE_NAME,
            )
            for kind in ("Training", "Tuning")
        ]
        # Step Functions waits for the end of a job by means of an EventBridge rule
        allow(role, "events:PutTargets", "events:PutRule", "events:DescribeRule", on=rules)
        functions = [each.function.function_arn for each in (self._functions.plan, self._functions.compare)]
        allow(role, "lambda:InvokeFunction", on=functions)
        jobs.role.grant_pass(role)
        if volumes := volume_key(jobs, bucket):
            # To encrypt a job's volume, SageMaker creates a KMS grant with the role that creates the job
            allow(
                role,
                "kms:CreateGrant",
                on=[volumes],
                only_if={"Bool": {"kms:GrantIsForAWSResource": "true"}},
            )
