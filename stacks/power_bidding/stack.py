"""Bid storage into an electricity market every hour, by forecasts that a pipeline keeps current."""

from __future__ import annotations

import json
from typing import Any

from aws_cdk import ArnFormat, CfnOutput, Duration, Stack, Tags
from aws_cdk import aws_ecr_assets as assets
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_ssm as ssm
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from groundplan import (
    ArtifactBucket,
    CleanUp,
    EmptySecret,
    HttpApi,
    ModelPipeline,
    ModelRegistry,
    Package,
    PipelineJobs,
    SageMakerRole,
    acknowledge,
    allow,
    dead_letters,
    log_group_arn,
    physical_name,
    state_machine,
)
from groundplan.instance_types import has_local_disks
from settings.power_bidding import PowerBidding
from stacks.power_bidding import machines, variables
from stacks.power_bidding.alarms import METRICS, watch
from stacks.power_bidding.functions import BidFunctions
from stacks.power_bidding.machines import DATASET, SOURCE
from stacks.power_bidding.queries import queries
from stacks.power_bidding.schedule import hourly
from stacks.power_bidding.tables import BidTables
from stacks.shared import (
    CONTAINERS,
    ROOT,
    docker_image,
    key_of,
    library_layer,
    network_of,
    retention,
    runtime_code,
)

NAME = "power_bidding"
DEFINITION = ROOT / "pipelines" / NAME / "definition.json"
"""The pipeline's definition, rendered by the SageMaker Python SDK."""
JOB_SUFFIX = 13
"""Length of the suffix of an endpoint's name: a hyphen and a part of the retraining's id."""
OWN = "Each version of the model has an endpoint of its own, named after the retraining."


class PowerBiddingStack(Stack):
    def __init__(self, scope: Construct, id: str, *, env_name: str, settings: PowerBidding) -> None:
        super().__init__(
            scope,
            id,
            description="Groundplan: hourly offers of storage, by forecasts that a pipeline keeps current",
        )
        tags = {"groundplan:architecture": NAME, "groundplan:environment": env_name}
        for tag, value in tags.items():
            Tags.of(self).add(tag, value)
        self._settings = settings
        self._name = name = physical_name(self, settings.endpoint_name, appended=JOB_SUFFIX)
        self._keep_logs = retention(settings.log_retention_days)
        self._network = network_of(self, settings)
        self._key = key = key_of(self, settings, f"prices, offers, models and messages of {NAME}")

        own_disks = settings.hosting == "serverless" or has_local_disks(settings.hosting_instance_type)
        self._endpoint_key = None if own_disks else key

        # Data
        self._bucket = bucket = ArtifactBucket(
            self,
            "Data",
            key=key,
            retain=settings.retain,
            expire={"raw": 400, "training": 90, "evaluation": 90, "queries": 7},
        )
        tables = BidTables(
            self,
            "Tables",
            retain=settings.retain,
            deletion_protection=settings.deletion_protection,
            key=key,
        )
        credentials = EmptySecret(
            self,
            "Credentials",
            name=f"{name}/feeds",
            description="Where feeds and market are, and what they ask for: docs/power_bidding/guide.md",
            key=key,
            retain=settings.retain,
        )
        letters = dead_letters(self, "DeadLetters", key=key)
        self._registry = registry = ModelRegistry(
            self,
            "Models",
            name=name,
            description=f"Forecasts of electricity prices, {env_name}",
            retain=settings.retain,
        )
        clock = self._parameter("Clock", "clock", "real", "real, or the JSON of a replay's clock")
        switch = self._parameter("Switch", "offers", "go", "go, approve (offers wait for a person) or stop")
        serving = self._parameter("Current", "endpoint", "none", "the endpoint that serves, or none")

        # Functions
        package = Package(
            code=runtime_code(NAME),
            layers=[library_layer(self), self._feed_layer()],
            dead_letters=letters,
            environment={"POWERTOOLS_SERVICE_NAME": self.stack_name, "POWERTOOLS_METRICS_NAMESPACE": METRICS},
            log_retention=self._keep_logs,
            key=key,
        )
        image = docker_image(self, "Image", CONTAINERS / NAME / "model")
        serving_image = docker_image(self, "ServingImage", CONTAINERS / NAME / "serve")
        roles = self._training_role(image), self._serving_role(serving_image)
        network = self._network
        hosting = variables.hosting(
            settings,
            tags=tags,
            vpc=network.vpc_config if network else None,
            key=self._endpoint_key.key_arn if self._endpoint_key else "",
            log_key=key.key_arn if key else "",
        )
        functions = self._functions = BidFunctions(
            self,
            package=package,
            variables={
                **{f"{table.upper()}_TABLE": each.table_name for table, each in tables.by_name.items()},
                "BUCKET": bucket.bucket.bucket_name,
                "FEEDS_SECRET_ARN": credentials.secret.secret_arn,
                "ENDPOINT_NAME": name,
                "ENDPOINT_PARAMETER": serving.parameter_name,
                "SWITCH_PARAMETER": switch.parameter_name,
                "PIPELINE_NAME": name,
                "CLOCK_PARAMETER": clock.parameter_name,
                "MODEL_ROLE_ARN": roles[1].role.role_arn,
                "ASSETS": json.dumps(variables.assets(settings)),
                "MARKET": json.dumps(variables.market(settings)),
                "MODEL": json.dumps(variables.model(settings)),
                "HOSTING": self.to_json_string(hosting),
                "LOCATIONS": ",".join(sorted(set(variables.locations(settings).values()))),
                "TIME_ZONE": settings.time_zone,
                "HORIZON_HOURS": str(variables.HORIZON_HOURS),
            },
            tables=tables,
            bucket=bucket,
            secret=credentials.secret,
        ).by_id
        for function, parameters in {
            "CheckModel": [serving],
            "Retrain": [serving],
            "MakeBids": [serving, switch, clock],
            "FallBack": [serving, switch, clock],
            "Release": [serving, switch, clock],
            "Deploy": [serving],
            "RollBack": [serving],
            "ApiFunction": [serving, switch, clock],
        }.items():
            for parameter in parameters:
                allow(functions[function].role, "ssm:GetParameter", on=[parameter.parameter_arn])
        for function in ("Deploy", "RollBack"):
            allow(functions[function].role, "ssm:PutParameter", on=[serving.parameter_arn])
        self._allow_serving(roles[1])

        # The pipeline, and the functions that start and read its executions
        pipeline = ModelPipeline(
            self,
            "Pipeline",
            name=name,
            definition=DEFINITION,
            values={
                "Name": name,
                "Bucket": bucket.bucket.bucket_name,
                "Image": image.image_uri,
                "ServingImage": serving_image.image_uri,
                "TrainingRole": roles[0].role.role_name,
                "ServingRole": roles[1].role.role_name,
                "InstanceType": settings.training_instance_type,
                "ModelPackageGroup": registry.name,
                "DeployFunction": functions["Deploy"].function.function_arn,
                "Floor": f"{settings.minimum_capture:g}",
                "TimeZone": settings.time_zone,
                "Asset": json.dumps(settings.battery.model_dump()),
                "NetworkLoss": settings.network_loss,
            },
            jobs=PipelineJobs(
                roles=roles,
                images=[image, serving_image],
                network=network,
                volume_key=None if has_local_disks(settings.training_instance_type) else key,
            ),
            registry=registry,
            functions=[functions["Deploy"]],
        )
        for folder in ("models", "evaluation", "training"):
            bucket.grant_read(pipeline.role, folder)
        pipeline.node.add_dependency(registry)
        pipeline.grant_start(functions["Retrain"].role)
        for function in ("CheckModel", "PipelineEvents", "Sweep"):
            pipeline.grant_read(functions[function].role)

        # The state machines
        prepare, bid, backfill = self._machines(letters)
        for function in ("Retrain", "PipelineEvents", "Sweep"):
            allow(
                functions[function].role,
                *(f"states:SendTask{answer}" for answer in ("Success", "Failure", "Heartbeat")),
                on=[self._machine_arn("Bid")],
            )
        hourly(self, name=name, machine=prepare, letters=letters, key=key, enabled=settings.scheduled)
        functions["PipelineEvents"].on_events(
            "PipelineChanged",
            events.EventPattern(
                source=["aws.sagemaker"],
                detail_type=[
                    "SageMaker Model Building Pipeline Execution Status Change",
                    "SageMaker Model Building Pipeline Execution Step Status Change",
                ],
                detail={"pipelineArn": [pipeline.arn]},
            ),
        )
        functions["Sweep"].every("Regularly", Duration.minutes(5))

        # API and queries
        api = HttpApi(
            self,
            "Api",
            document=ROOT / "runtime" / NAME / "openapi.json",
            log_retention=self._keep_logs,
            key=key,
        )
        api.serve(functions["ApiFunction"])
        asked = queries(self, name=name, bucket=bucket)

        # CloudFormation deletes in reverse order: first the resources that create endpoints, then the
        # endpoints
        clean_up = CleanUp(
            self,
            "CleanUp",
            endpoint_name=name,
            suffixes=("[0-9a-f]{12}",),
            bucket=None if settings.retain else bucket,
            registry=None if settings.retain else registry,
            log_retention=self._keep_logs,
            key=key,
        )
        pipeline.node.add_dependency(clean_up)
        pager = watch(
            self,
            settings=settings,
            key=key,
            letters=letters,
            machines={"Prepare": prepare, "Bid": bid},
            pipeline=pipeline,
            api=api,
        )
        for output, value in {
            "PrepareArn": prepare.state_machine_arn,
            "BidArn": bid.state_machine_arn,
            "BackfillArn": backfill.state_machine_arn,
            "PipelineName": name,
            "BucketName": bucket.bucket.bucket_name,
            "CredentialsName": f"{name}/feeds",
            "EndpointParameterName": serving.parameter_name,
            "SwitchParameterName": switch.parameter_name,
            "ClockParameterName": clock.parameter_name,
            "ModelPackageGroupName": registry.name,
            "ApiUrl": api.url,
            "DatabaseName": asked.database_name,
            "WorkGroupName": asked.workgroup_name,
            "AlarmTopicArn": pager.topic.topic_arn,
            "DeadLetterQueueUrl": letters.queue_url,
            **{f"{table.title()}Table": each.table_name for table, each in tables.by_name.items()},
            **{
                f"{id.removesuffix('Function')}FunctionName": each.function.function_name
                for id, each in functions.items()
            },
        }.items():
            CfnOutput(self, output, value=value)

    def _parameter(self, id: str, name: str, value: str, what: str) -> ssm.StringParameter:
        return ssm.StringParameter(
            self, id, parameter_name=f"/groundplan/{self._name}/{name}", string_value=value, description=what
        )

    def _feed_layer(self) -> lambda_.LayerVersion:
        """Create the layer with the code that reads, checks and aligns feeds."""
        return lambda_.LayerVersion(
            self,
            "PowerFeeds",
            code=lambda_.Code.from_asset(
                str(ROOT / "runtime" / NAME / "layer"), exclude=["**/__pycache__", "*.md"]
            ),
            compatible_runtimes=[lambda_.Runtime.PYTHON_3_14],
            compatible_architectures=[lambda_.Architecture.ARM_64],
            description="Reads, checks and aligns the feeds of power_bidding",
        )

    def _training_role(self, image: assets.DockerImageAsset) -> SageMakerRole:
        role = SageMakerRole(
            self,
            "Training",
            log_group="/aws/sagemaker/*Jobs",
            network=self._network,
        )
        image.repository.grant_pull(role.role)
        for folder in ("training", "models", "evaluation"):
            self._bucket.grant_read(role.role, folder)
        for folder in ("models", "evaluation"):
            self._bucket.grant_write(role.role, folder)
        return role

    def _serving_role(self, image: assets.DockerImageAsset) -> SageMakerRole:
        role = SageMakerRole(
            self,
            "Serving",
            log_group=f"/aws/sagemaker/Endpoints/{self._name}-*",
            # serverless endpoints do not support VPCs
            network=self._network if self._settings.hosting == "provisioned" else None,
        )
        image.repository.grant_pull(role.role)
        self._bucket.grant_read(role.role, "models")
        return role

    def _allow_serving(self, role: SageMakerRole) -> None:
        """Let functions create, test, invoke and delete endpoints."""

        def arn(kind: str, resource: str = f"{self._name}-*") -> str:
            return self.format_arn(service="sagemaker", resource=kind, resource_name=resource)

        deploy, roll_back = self._functions["Deploy"].role, self._functions["RollBack"].role
        for kind, resource in (
            ("Endpoint", "endpoint"),
            ("EndpointConfig", "endpoint-config"),
            ("Model", "model"),
        ):
            actions = (f"sagemaker:{verb}{kind}" for verb in ("Create", "Describe", "Delete"))
            allow(deploy, *actions, on=[arn(resource)], because=OWN)
        arns = [arn(kind) for kind in ("endpoint", "endpoint-config", "model")]
        allow(deploy, "sagemaker:AddTags", on=arns, because=OWN)
        # CreateEndpoint needs a permission on the endpoint's configuration too
        allow(deploy, "sagemaker:CreateEndpoint", on=[arn("endpoint-config")], because=OWN)
        log_actions = ["logs:CreateLogGroup", "logs:PutRetentionPolicy"]
        if self._settings.own_key:
            log_actions.append("logs:AssociateKmsKey")
        logs = log_group_arn(self, f"/aws/sagemaker/Endpoints/{self._name}-*")
        allow(deploy, *log_actions, on=[logs], because=OWN)
        lists = "IAM knows no resource for a list."
        for grantee in (deploy, roll_back):
            allow(grantee, "sagemaker:ListEndpoints", on=["*"], because=lists)
            allow(grantee, "sagemaker:DescribeEndpoint", on=[arn("endpoint")], because=OWN)
        role.grant_pass(deploy)
        if self._endpoint_key:
            # To encrypt an endpoint's volume, SageMaker creates a KMS grant with the role that creates the
            # endpoint
            allow(
                deploy,
                "kms:CreateGrant",
                on=[self._endpoint_key.key_arn],
                only_if={"Bool": {"kms:GrantIsForAWSResource": "true"}},
            )
        for function in ("Deploy", "MakeBids"):
            allow(
                self._functions[function].role, "sagemaker:InvokeEndpoint", on=[arn("endpoint")], because=OWN
            )
        for function in ("CheckModel", "Retrain"):
            allow(
                self._functions[function].role,
                "sagemaker:DescribeEndpoint",
                "sagemaker:DescribeEndpointConfig",
                "sagemaker:DescribeModel",
                on=[arn("endpoint"), arn("endpoint-config"), arn("model")],
                because=OWN,
            )

    def _machines(self, letters: sqs.IQueue) -> tuple[sfn.StateMachine, sfn.StateMachine, sfn.StateMachine]:
        """Create `prepare`, `bid` and `backfill`. An event of `prepare` starts `bid`."""
        arns = {id: each.function.function_arn for id, each in self._functions.items()}
        bus = events.EventBus.from_event_bus_name(self, "Bus", "default")
        prepare, role = self._machine(
            "Prepare",
            machines.prepare(self._settings, arns, bus=bus.event_bus_name),
            [*machines.FEEDS.values(), "Consolidate"],
        )
        allow(role, "events:PutEvents", on=[bus.event_bus_arn])
        bid, _ = self._machine(
            "Bid",
            machines.bid(self._settings, arns),
            ["CheckModel", "Retrain", "MakeBids", "FallBack"],
        )
        events.Rule(
            self,
            "DatasetMade",
            event_pattern=events.EventPattern(source=[SOURCE], detail_type=[DATASET]),
            targets=[
                targets.SfnStateMachine(
                    bid, input=events.RuleTargetInput.from_event_path("$.detail"), dead_letter_queue=letters
                )
            ],
        )
        backfill, role = self._machine("Backfill", machines.backfill(prepare.state_machine_arn), [])
        prepare.grant_start_execution(role)
        runs = self.format_arn(
            service="states",
            resource="execution",
            resource_name=f"{self._machine_name('Prepare')}:*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        own = "Executions are named when they are started."
        allow(role, "states:DescribeExecution", "states:StopExecution", on=[runs], because=own)
        rule = self.format_arn(
            service="events",
            resource="rule",
            resource_name="StepFunctionsGetEventsForStepFunctionsExecutionRule",
        )
        allow(role, "events:PutTargets", "events:PutRule", "events:DescribeRule", on=[rule])
        # the children of a distributed map are executions of the machine itself
        allow(role, "states:StartExecution", on=[self._machine_arn("Backfill")])
        self._bucket.grant_read(role, "backfill")
        return prepare, bid, backfill

    def _machine(
        self, id: str, definition: dict[str, Any], invoked: list[str]
    ) -> tuple[sfn.StateMachine, iam.Role]:
        place = Construct(self, id)
        role = iam.Role(place, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        if invoked:
            functions = [self._functions[each].function.function_arn for each in invoked]
            allow(role, "lambda:InvokeFunction", on=functions)
        acknowledge(
            role,
            {"AwsSolutions-IAM5[Resource::*]": "IAM knows no resource for traces and the delivery of logs."},
        )
        machine = state_machine(
            place,
            name=self._machine_name(id),
            definition=definition,
            role=role,
            log_retention=self._keep_logs,
            key=self._key,
        )
        return machine, role

    def _machine_name(self, id: str) -> str:
        return f"{self._name}-{id.lower()}"

    def _machine_arn(self, id: str) -> str:
        """Return a state machine's ARN, built from its name: a reference would cause a dependency cycle."""
        return self.format_arn(
            service="states",
            resource="stateMachine",
            resource_name=self._machine_name(id),
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
