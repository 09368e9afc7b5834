from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from groundplan.artifact_bucket import ArtifactBucket
from groundplan.machine import not_succeeded, state_machine
from groundplan.model_registry import ModelRegistry
from groundplan.names import physical_name
from groundplan.permissions import allow
from groundplan.workflow import (
    LONGEST_SUFFIX,
    Metric,
    ServerlessEndpoint,
    TrainingJobs,
    Workflow,
    volume_key,
)


class TrainAndDeploy(Construct):
    """A state machine that trains and registers a model, and deploys it if it beats the one in service.

    :param training: image and settings of the training and evaluation jobs.
    :param endpoint: the endpoint that serves the better model.
    :param metric: the metric by which models are compared.
    :param bucket: the bucket for models, checkpoints and evaluations: its folders `training`, `checkpoints`
        and `evaluation`.
    :param registry: the registry of all trained models.
    :param log_retention: retention of the state machine's log. Default: one month.
    :param tags: tags of all resources that the workflow creates in SageMaker. Default: none.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        training: TrainingJobs,
        endpoint: ServerlessEndpoint,
        metric: Metric,
        bucket: ArtifactBucket,
        registry: ModelRegistry,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(scope, id)
        physical_name(self, endpoint.name, appended=LONGEST_SUFFIX)
        definition = Workflow(
            training=training,
            endpoint=endpoint,
            metric=metric,
            bucket=bucket,
            registry=registry,
            tags=tags or {},
        ).definition()
        self.endpoint_name = endpoint.name
        """The endpoint's name. The endpoint does not exist until the first model is deployed."""
        self._role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        self._allow(endpoint.name, registry)
        # the role that registers a model must be able to read the model
        bucket.grant_read(self._role, "training")
        images = {each.repository.repository_arn for each in (training.image, endpoint.image) if each}
        allow(self._role, "ecr:BatchGetImage", "ecr:DescribeImages", on=sorted(images))
        if bucket.key:
            allow(self._role, "kms:DescribeKey", on=[bucket.key.key_arn])
        if volumes := volume_key(training, bucket):
            # To encrypt a job's volume, SageMaker creates a KMS grant with the role that creates the job
            allow(
                self._role,
                "kms:CreateGrant",
                on=[volumes],
                only_if={"Bool": {"kms:GrantIsForAWSResource": "true"}},
            )
        training.role.grant_pass(self._role)
        endpoint.role.grant_pass(self._role)
        self.state_machine = state_machine(
            self,
            name=endpoint.name,
            definition=definition,
            role=self._role,
            log_retention=log_retention,
            key=bucket.key,
        )
        """The state machine."""

    def every(self, schedule: str, *, dead_letters: sqs.IQueue) -> events.Rule:
        """Start the workflow on a schedule, such as `rate(7 days)` or `cron(0 6 ? * MON *)` in UTC.

        If EventBridge cannot start the workflow for a day, the event goes to the queue `dead_letters`.
        Returns the rule, which can be disabled.
        """
        return events.Rule(
            self,
            "Schedule",
            schedule=events.Schedule.expression(schedule),
            targets=[
                targets.SfnStateMachine(
                    self.state_machine,
                    input=events.RuleTargetInput.from_object({}),
                    dead_letter_queue=dead_letters,
                )
            ],
        )

    def grant_start(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` start the workflow."""
        return self.state_machine.grant_start_execution(grantee)

    def grant_invoke_endpoint(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` invoke the endpoint."""
        return iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["sagemaker:InvokeEndpoint"],
            resource_arns=[self._arn("endpoint", self.endpoint_name)],
        )

    def metric_not_succeeded(self, period: Duration | None = None) -> cloudwatch.IMetric:
        """Return the number of executions that failed or timed out in `period`, five minutes by default."""
        return not_succeeded(self.state_machine, period)

    def metric_server_errors(self, period: Duration | None = None) -> cloudwatch.IMetric:
        """Return the number of invocations that the container answered with 5xx in `period`, five minutes by
        default."""
        return cloudwatch.Metric(
            namespace="AWS/SageMaker",
            metric_name="Invocation5XXErrors",
            dimensions_map={"EndpointName": self.endpoint_name, "VariantName": "AllTraffic"},
            statistic="Sum",
            period=period or Duration.minutes(5),
        )

    def _arn(self, kind: str, name: str) -> str:
        return Stack.of(self).format_arn(service="sagemaker", resource=kind, resource_name=name)

    def _allow(self, name: str, registry: ModelRegistry) -> None:
        """Allow the state machine's calls, on resources whose names begin with `name`."""
        stack = Stack.of(self)
        jobs, models, configs = (
            self._arn(kind, f"{name}-*") for kind in ("training-job", "model", "endpoint-config")
        )
        endpoint = self._arn("endpoint", name)
        rule = stack.format_arn(
            service="events",
            resource="rule",
            resource_name="StepFunctionsGetEventsForSageMakerTrainingJobsRule",
            arn_format=ArnFormat.SLASH_RESOURCE_NAME,
        )
        own = "Each execution names what it creates after itself."
        for actions, resources, because in (
            (["CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob"], [jobs], own),
            (["CreateModel", "DescribeModel"], [models], own),
            (["CreateEndpointConfig", "DescribeEndpointConfig"], [configs], own),
            (["CreateEndpoint", "UpdateEndpoint"], [endpoint, configs], own),
            (["DescribeEndpoint", "DeleteEndpoint"], [endpoint], None),
            (["AddTags"], [jobs, models, configs, endpoint], own),
            # part of AWS's policy for createTrainingJob.sync
            (["ListTags"], [jobs], own),
            (
                ["CreateModelPackage", "UpdateModelPackage", "DescribeModelPackage"],
                [registry.group_arn, registry.package_arns],
                "SageMaker numbers the packages of a group.",
            ),
            (
                ["ListEndpoints"],
                ["*"],
                "IAM knows no resource for these calls: the list of endpoints, traces, delivery of logs.",
            ),
        ):
            allow(self._role, *(f"sagemaker:{action}" for action in actions), on=resources, because=because)
        # Step Functions gets an EventBridge event when a job has ended
        allow(self._role, "events:PutTargets", "events:PutRule", "events:DescribeRule", on=[rule])
