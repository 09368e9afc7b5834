"""Fine-tune a text-to-image model for every user, and serve all of them from one endpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_cdk import CfnOutput, Duration, IgnoreMode, RemovalPolicy, Stack, Tags
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ecr_assets as assets
from aws_cdk import aws_events as events
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from groundplan import (
    ArtifactBucket,
    CleanUp,
    Instances,
    MultiModelEndpoint,
    Package,
    Pager,
    PythonFunction,
    SageMakerRole,
    SiteFiles,
    StaticSite,
    UserApi,
    Users,
    acknowledge,
    allow,
    allow_key,
)
from settings import Personalization
from stacks.shared import key_of, network_of, retention

ROOT = Path(__file__).resolve().parent.parent
NAME = "personalization"
FINETUNE, SERVE = (ROOT / "containers" / f"{NAME}_{part}" for part in ("finetune", "serve"))
METRICS = "Groundplan"
LOCAL_STORAGE = re.compile(r"ml\.(g4dn|g5|g6|g6e|p4d|p4de|p5|m5d|c5d|r5d)\.")
"""Instances with disks of their own, which encrypt by themselves: SageMaker refuses a key for them."""
HANDLERS = ROOT / "runtime" / NAME
LAYER = ROOT / ".groundplan" / "layers" / "runtime"
"""What the functions import beside AWS's own Python. Made before synthesis, which fetches nothing."""

OBJECTS = "Objects are named when they are written; the folder is the grant."
JOBS = "Jobs are named after the stack when they are made."
GET, PUT, UPDATE, DELETE, QUERY = (
    f"dynamodb:{verb}" for verb in ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query")
)
CHECK, BATCH_GET = "dynamodb:ConditionCheckItem", "dynamodb:BatchGetItem"


class LayerMissing(Exception):
    """The functions' libraries were not put together before synthesis."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What is known of users, their models, their wishes for models, the jobs, and what was generated."""

    users: dynamodb.Table
    models: dynamodb.Table
    requests: dynamodb.Table
    jobs: dynamodb.Table
    generations: dynamodb.Table

    def items(self) -> dict[str, dynamodb.Table]:
        return dict(vars(self))


class PersonalizationStack(Stack):
    def __init__(self, scope: Construct, id: str, *, env_name: str, settings: Personalization) -> None:
        super().__init__(
            scope,
            id,
            description="Groundplan: a text-to-image model fine-tuned for every user, one endpoint for all",
        )
        tags = {"groundplan:architecture": NAME, "groundplan:environment": env_name}
        for name, value in tags.items():
            Tags.of(self).add(name, value)
        self.name = settings.endpoint_name or id
        self.settings = settings
        self.tags_of_jobs = tags
        self.keep_logs = retention(settings.log_retention_days)
        self.key = key = key_of(self, settings, f"pictures, models, tables and messages of {NAME}")
        self.volume_key = None if LOCAL_STORAGE.match(settings.training_instance_type) else key

        # What is kept
        self.tables = self._tables()
        self.topic = sns.Topic(
            self,
            "States",
            display_name="Models that are ready, and those that failed",
            enforce_ssl=True,
            master_key=key or kms.Alias.from_alias_name(self, "SnsKey", "alias/aws/sns"),
        )
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        acknowledge(self.dead_letters, {"AwsSolutions-SQS3": "It is the queue of dead letters itself."})

        # Who may come in, and where. The bucket answers the page's uploads, so the page comes before it.
        users = Users(self, "Users", self_sign_up=settings.self_sign_up, retain=settings.retain)
        api = UserApi(
            self, "Api", document=HANDLERS / "openapi.json", users=users, log_retention=self.keep_logs
        )
        site = StaticSite(self, "Site", api=api)
        self.bucket = ArtifactBucket(
            self,
            "Data",
            key=key,
            retain=settings.retain,
            # What a job made is copied to where it belongs; the pictures are needed until then
            expire={"jobs": 30, "uploads": 30},
            events=True,
        )
        self.bucket.bucket.add_cors_rule(
            allowed_methods=[s3.HttpMethods.POST, s3.HttpMethods.GET],
            allowed_origins=[site.url],
            allowed_headers=["*"],
            max_age=3600,
        )

        # What SageMaker runs
        finetune, serve = self._image("Finetune", FINETUNE), self._image("Serve", SERVE)
        clean_up = CleanUp(
            self,
            "CleanUp",
            code=_code("clean_up"),
            endpoint_name=self.name,
            bucket=None if settings.retain else self.bucket,
            log_retention=self.keep_logs,
        )
        self.training_role = self._training_role(finetune)
        self.endpoint = MultiModelEndpoint(
            self,
            "Endpoint",
            name=self.name,
            image=serve,
            bucket=self.bucket,
            folder="adapters",
            instances=Instances(
                type=settings.serving_instance_type,
                min=settings.min_instances,
                max=settings.max_instances,
                invocations=settings.invocations_per_instance,
            ),
            environment={
                "GROUNDPLAN_BASE": settings.base,
                "GROUNDPLAN_MEMORY": str(settings.serving_memory_mb * 2**20),
                "GROUNDPLAN_PROMPT": str(settings.limits.prompt_chars),
                # As the first pictures in the job are made
                "GROUNDPLAN_GUIDANCE": f"{settings.hyperparameters.guidance:g}",
                "GROUNDPLAN_STEPS": str(settings.hyperparameters.preview_steps),
            },
            log_retention=self.keep_logs,
        )
        self._read_base(self.endpoint.role)

        # What moves a wish through
        self.package = self._package()
        self.variables = self._variables(finetune)
        functions = {
            "ApiFunction": self._api(api),
            "Dispatcher": self._dispatcher(),
            "Collector": self._collector(),
            "Preparer": self._preparer(),
            "Notifier": self._notifier(),
            "Purger": self._purger(),
            "Sweeper": self._sweeper(),
        }
        for function in functions.values():
            allow_key(function.role, key)
        # Deleted in the other order: first nobody makes jobs and nothing serves, then it is cleaned up
        for construct in (*functions.values(), self.endpoint):
            construct.node.add_dependency(clean_up)

        self._publish(site, users)
        pager = self._pager(api, functions["Sweeper"])

        for name, value in {
            "SiteUrl": site.url,
            "ApiUrl": api.url,
            "UserPoolId": users.pool.user_pool_id,
            "UserPoolClientId": users.client.user_pool_client_id,
            "DataBucket": self.bucket.bucket.bucket_name,
            "EndpointName": self.name,
            "JobPrefix": self.name,
            "StateTopicArn": self.topic.topic_arn,
            "AlarmTopicArn": pager.topic.topic_arn,
            "DeadLetterQueueUrl": self.dead_letters.queue_url,
            "FinetuneImageUri": finetune.image_uri,
            "ServeImageUri": serve.image_uri,
            "TrainingRoleArn": self.training_role.role.role_arn,
            **{f"{name.title()}Table": table.table_name for name, table in self.tables.items().items()},
            **{
                f"{name.removesuffix('Function')}FunctionName": function.function.function_name
                for name, function in functions.items()
            },
        }.items():
            CfnOutput(self, name, value=value)

    # What is kept

    def _tables(self) -> Tables:
        self._tables_scope = Construct(self, "Tables")
        return Tables(
            users=self._table("Users", "user"),
            models=self._table("Models", "user", "model", stream=True),
            requests=self._table("Requests", "request", index=("queue", "status", "updated"), stream=True),
            jobs=self._table("Jobs", "job", index=("open", "status", "updated")),
            generations=self._table("Generations", "user", "generation", expires="expires"),
        )

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
            self._tables_scope,
            id,
            partition_key=key(partition),
            sort_key=key(sort) if sort else None,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute=expires,
            stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES if stream else None,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED if self.key else None,
            encryption_key=self.key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=self.settings.point_in_time_recovery
            ),
            deletion_protection=self.settings.retain,
            removal_policy=RemovalPolicy.RETAIN if self.settings.retain else RemovalPolicy.DESTROY,
        )
        if index:
            name, *keys = index
            table.add_global_secondary_index(
                index_name=name, partition_key=key(keys[0]), sort_key=key(keys[1])
            )
        if not self.settings.point_in_time_recovery:
            acknowledge(
                table,
                {"AwsSolutions-DDB3": "A setting, point_in_time_recovery, off where data is for trial."},
            )
        return table

    # What SageMaker runs

    def _image(self, id: str, folder: Path) -> assets.DockerImageAsset:
        return assets.DockerImageAsset(self, id, directory=str(folder), platform=assets.Platform.LINUX_AMD64)

    def _training_role(self, image: assets.DockerImageAsset) -> SageMakerRole:
        role = SageMakerRole(
            self,
            "Training",
            log_group="/aws/sagemaker/TrainingJobs",
            network=network_of(self, self.settings),
        )
        image.repository.grant_pull(role.role)
        for folder in ("uploads", "jobs"):
            self.bucket.grant_read(role.role, folder)
        self.bucket.grant_write(role.role, "jobs")
        self._read_base(role.role)
        return role

    def _read_base(self, role: Any) -> None:
        """Where the base is a folder in S3: a bucket that was there before the stack."""
        if not self.settings.base.startswith("s3://"):
            return
        bucket, _, folder = self.settings.base.removeprefix("s3://").partition("/")
        there = s3.Bucket.from_bucket_name(role, "Base", bucket)
        allow(role, "s3:GetObject", on=[there.arn_for_objects(f"{folder}*")], because=OBJECTS)
        allow(role, "s3:ListBucket", "s3:GetBucketLocation", on=[there.bucket_arn])

    # What moves a wish through

    def _package(self) -> Package:
        if not (LAYER / "python").is_dir():
            raise LayerMissing(f"{LAYER} is not there: `make setup` or `python -m tooling.layers` makes it")
        return Package(
            code=_code(NAME),
            layer=lambda_.LayerVersion(
                self,
                "Libraries",
                code=lambda_.Code.from_asset(str(LAYER)),
                compatible_runtimes=[lambda_.Runtime.PYTHON_3_14],
                compatible_architectures=[lambda_.Architecture.ARM_64],
                description="What the functions import beside AWS's own Python",
            ),
            dead_letters=self.dead_letters,
            environment={"POWERTOOLS_SERVICE_NAME": self.stack_name, "POWERTOOLS_METRICS_NAMESPACE": METRICS},
            log_retention=self.keep_logs,
        )

    def _variables(self, finetune: assets.DockerImageAsset) -> dict[str, str]:
        chosen = self.settings
        network = network_of(self.training_role, chosen)
        job: dict[str, Any] = {
            "image": finetune.image_uri,
            "role": self.training_role.role.role_arn,
            "instance_type": chosen.training_instance_type,
            "hosts_max": chosen.hosts_max,
            "tasks_per_host": chosen.tasks_per_host,
            "volume_gb": chosen.volume_gb,
            "max_runtime": chosen.max_runtime_minutes * 60,
            "spot": chosen.spot,
            "keep_alive": chosen.keep_alive_seconds,
            "base": {"uri" if chosen.base.startswith("s3://") else "id": chosen.base},
            "hyperparameters": chosen.hyperparameters.as_hyperparameters(),
            "tags": self.tags_of_jobs,
        }
        if network:
            vpc = network.vpc_config
            job["vpc"] = {"subnets": vpc["Subnets"], "security_groups": vpc["SecurityGroupIds"]}
        if self.volume_key:
            job["key"] = self.volume_key.key_arn
        return {
            **{f"{name.upper()}_TABLE": table.table_name for name, table in self.tables.items().items()},
            "DATA_BUCKET": self.bucket.bucket.bucket_name,
            "ENDPOINT_NAME": self.name,
            "TOPIC_ARN": self.topic.topic_arn,
            "JOB_PREFIX": self.name,
            "JOB_SETTINGS": self.to_json_string(job),
            "LIMITS": json.dumps(chosen.limits.model_dump()),
            "PACE": json.dumps(chosen.pace.model_dump()),
        }

    def _function(
        self, id: str, description: str, *, seconds: int = 60, memory_mb: int = 256
    ) -> PythonFunction:
        return PythonFunction(
            self,
            id,
            package=self.package,
            handler=f"{NAME}.{id.removesuffix('Function').lower()}.handler",
            description=description,
            environment=self.variables,
            timeout=Duration.seconds(seconds),
            memory_mb=memory_mb,
        )

    def _api(self, api: UserApi) -> PythonFunction:
        function = self._function(
            "ApiFunction", "Answers the users of personalization", seconds=29, memory_mb=1024
        )
        self._rows(
            function,
            users=(GET, UPDATE),
            models=(GET, PUT, UPDATE, CHECK, QUERY),
            requests=(GET, PUT),
            jobs=(GET,),
            generations=(GET, PUT, UPDATE, QUERY),
        )
        self._objects(
            function,
            read=("uploads", "jobs", "previews", "generations"),
            # What the page uploads, it uploads with this role's signature
            write=("uploads", "generations"),
            delete=("generations",),
        )
        self.endpoint.grant_invoke(function.role)
        api.serve(function)
        return function

    def _dispatcher(self) -> PythonFunction:
        function = self._function("Dispatcher", "Packs waiting requests into training jobs, at a pace")
        self._dispatches(function)
        # A model and its request are queued in one write. Two functions follow the requests, which is as many
        # as a stream takes without a wait, so this one follows the models.
        function.on_changes("Queued", self.tables.models, [_status("QUEUED")])
        function.every("EveryMinute", Duration.minutes(1))
        return function

    def _collector(self) -> PythonFunction:
        function = self._function("Collector", "Moves the requests of a training job on", seconds=300)
        self._prepares(function)
        self._jobs(function, "DescribeTrainingJob", "StopTrainingJob")
        function.on_events(
            "JobChanged",
            events.EventPattern(
                source=["aws.sagemaker"],
                detail_type=["SageMaker Training Job State Change"],
                detail={"TrainingJobName": [{"prefix": f"{self.name}-"}]},
            ),
        )
        return function

    def _preparer(self) -> PythonFunction:
        function = self._function("Preparer", "Prepares a fine-tune's result for the endpoint", seconds=300)
        self._prepares(function)
        function.on_events(
            "ResultWritten",
            events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={
                    "bucket": {"name": [self.bucket.bucket.bucket_name]},
                    "object": {"key": [{"wildcard": "jobs/*/checkpoints/*/result.json"}]},
                },
            ),
            # As S3 itself would put it
            input=events.RuleTargetInput.from_object(
                {"Records": [{"s3": {"object": {"key": events.EventField.from_path("$.detail.object.key")}}}]}
            ),
        )
        return function

    def _notifier(self) -> PythonFunction:
        function = self._function("Notifier", "Tells of models that are ready and of those that failed")
        self._notifies(function)
        function.on_changes("Settled", self.tables.requests, [_status("READY", "FAILED")])
        return function

    def _purger(self) -> PythonFunction:
        function = self._function("Purger", "Deletes all that belonged to a deleted model", seconds=300)
        self._purges(function)
        function.on_changes("Deleted", self.tables.requests, [_status("DELETED")])
        return function

    def _sweeper(self) -> PythonFunction:
        """It may do what all the others may: it does their work when they were not told."""
        function = self._function("Sweeper", "Finds what no event told of, and moves it on", seconds=300)
        for may in (self._dispatches, self._prepares, self._notifies, self._purges):
            may(function)
        self._rows(function, requests=(DELETE,))
        function.every("Regularly", Duration.minutes(self.settings.sweep_minutes))
        return function

    # What a function needs for each of its kinds of work

    def _dispatches(self, function: PythonFunction) -> None:
        self._rows(
            function,
            users=(UPDATE,),
            models=(UPDATE,),
            requests=(BATCH_GET, UPDATE),
            jobs=(GET, PUT, UPDATE),
        )
        self._indexes(function, requests="queue", jobs="open")
        self._objects(function, read=("jobs",), write=("jobs",))
        self._jobs(function, "CreateTrainingJob", "AddTags", "DescribeTrainingJob")
        self.training_role.grant_pass(function.role)
        if self.volume_key:
            allow(
                function.role,
                "kms:CreateGrant",
                on=[self.volume_key.key_arn],
                only_if={"Bool": {"kms:GrantIsForAWSResource": "true"}},
            )

    def _prepares(self, function: PythonFunction) -> None:
        self._rows(
            function,
            users=(UPDATE,),
            models=(UPDATE,),
            requests=(BATCH_GET, UPDATE),
            jobs=(GET, UPDATE),
        )
        self._objects(
            function,
            read=("jobs",),
            write=("adapters", "previews"),
            delete=("adapters", "previews"),
        )

    def _notifies(self, function: PythonFunction) -> None:
        self._rows(function, requests=(GET, UPDATE))
        allow(function.role, "sns:Publish", on=[self.topic.topic_arn])

    def _purges(self, function: PythonFunction) -> None:
        self._rows(
            function,
            models=(DELETE,),
            requests=(BATCH_GET, UPDATE),
            jobs=(GET,),
            generations=(QUERY, DELETE),
        )
        self._objects(function, delete=("uploads", "jobs", "adapters", "previews", "generations"))
        self._jobs(function, "StopTrainingJob")

    def _rows(self, function: PythonFunction, **verbs: tuple[str, ...]) -> None:
        """Let a function do this with the tables of these names."""
        for name, actions in verbs.items():
            allow(function.role, *actions, on=[self.tables.items()[name].table_arn])

    def _indexes(self, function: PythonFunction, **indexes: str) -> None:
        """Let a function query these indexes of the tables of these names."""
        for name, index in indexes.items():
            allow(function.role, QUERY, on=[f"{self.tables.items()[name].table_arn}/index/{index}"])

    def _objects(
        self,
        function: PythonFunction,
        *,
        read: tuple[str, ...] = (),
        write: tuple[str, ...] = (),
        delete: tuple[str, ...] = (),
    ) -> None:
        """Let a function do this with the objects of these folders, and list the bucket to find them."""
        bucket = self.bucket.bucket
        for action, folders in (("s3:GetObject", read), ("s3:PutObject", write), ("s3:DeleteObject", delete)):
            if folders:
                allow(
                    function.role,
                    action,
                    on=[bucket.arn_for_objects(f"{folder}/*") for folder in folders],
                    because=OBJECTS,
                )
        allow(function.role, "s3:ListBucket", on=[bucket.bucket_arn])

    def _jobs(self, function: PythonFunction, *verbs: str) -> None:
        """Let a function do this with the stack's training jobs."""
        jobs = self.format_arn(service="sagemaker", resource="training-job", resource_name=f"{self.name}-*")
        allow(function.role, *(f"sagemaker:{verb}" for verb in verbs), on=[jobs], because=JOBS)

    # What people see

    def _publish(self, site: StaticSite, users: Users) -> None:
        publisher = PythonFunction(
            self,
            "Publisher",
            package=Package(code=_code("static_site"), log_retention=self.keep_logs),
            handler="handler.handler",
            description="Puts the page's files into its bucket, with the stack",
            timeout=Duration.minutes(5),
        )
        SiteFiles(
            self,
            "SiteFiles",
            site=site,
            source=s3_assets.Asset(self, "Page", path=str(ROOT / "web" / NAME)),
            config={
                "region": self.region,
                "userPoolId": users.pool.user_pool_id,
                "clientId": users.client.user_pool_client_id,
                "api": "/api",
                "selfSignUp": self.settings.self_sign_up,
                "limits": self.settings.limits.model_dump(),
            },
            storage=self.bucket.bucket,
            publisher=publisher,
        )

    def _pager(self, api: UserApi, sweeper: PythonFunction) -> Pager:
        settings, id = self.settings, self.stack_name
        pager = Pager(self, "Pager", email=settings.alarm_email or None, key=self.key)
        pager.page_when(
            "QueueStandsStill",
            self._metric("OldestQueuedSeconds", "Maximum"),
            above=3600,
            description=f"{id}: a request has waited for an hour",
        )
        pager.page_when(
            "RequestFailed", self._metric("RequestsFailed", "Sum"), description=f"{id}: a fine-tune failed"
        )
        pager.page_when(
            "DeadLetter",
            self.dead_letters.metric_approximate_number_of_messages_visible(statistic="Maximum"),
            description=f"{id}: an event was given up",
        )
        pager.page_when(
            "ApiFails",
            api.metric_server_errors(),
            description=f"{id}: the API answers with 5xx",
        )
        pager.page_when(
            "EndpointFails",
            self.endpoint.metric_server_errors(),
            description=f"{id}: the endpoint answers with 5xx",
        )
        pager.page_when(
            "EndpointSlow",
            self.endpoint.metric_latency(),
            above=25_000_000,
            description=f"{id}: one generation in a hundred takes longer than 25 s, and the API waits for 29",
        )
        pager.page_when_silent(
            "NoSweep",
            sweeper.metric_runs(Duration.minutes(max(5, settings.sweep_minutes))),
            description=f"{id}: the sweeper does not run",
        )
        return pager

    def _metric(self, name: str, statistic: str) -> cloudwatch.Metric:
        """One of the functions' own metrics."""
        return cloudwatch.Metric(
            namespace=METRICS,
            metric_name=name,
            statistic=statistic,
            period=Duration.minutes(5),
            dimensions_map={"service": self.stack_name},
        )


def _status(*statuses: str) -> Mapping[str, Any]:
    """The pattern of a row that came into one of these states."""
    return {"dynamodb": {"NewImage": {"status": {"S": list(statuses)}}}}


def _code(package: str) -> lambda_.Code:
    """What Lambda runs: one package of `runtime/`, importable by its name; a lone handler lies at the top."""
    if package != NAME:
        return lambda_.Code.from_asset(
            str(ROOT / "runtime" / package), exclude=["**/__pycache__", "**/.*", "__init__.py"]
        )
    return lambda_.Code.from_asset(
        str(ROOT / "runtime"),
        exclude=["/*", f"!/{package}", "**/__pycache__", "**/.*", "*.md"],
        ignore_mode=IgnoreMode.GIT,
    )
