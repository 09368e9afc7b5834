"""Fine-tune a text-to-image model for every user, and serve all of them from one endpoint."""

from __future__ import annotations

import json
from pathlib import Path

from aws_cdk import CfnOutput, Duration, Stack, Tags
from aws_cdk import aws_ecr_assets as assets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from aws_cdk import aws_sns as sns
from constructs import Construct

from groundplan import (
    ArtifactBucket,
    CleanUp,
    Instances,
    MultiModelEndpoint,
    Package,
    PythonFunction,
    SageMakerRole,
    SiteFiles,
    StaticSite,
    UserApi,
    Users,
    allow,
    dead_letters,
    physical_name,
)
from groundplan.instance_types import device, has_local_disks
from settings.instance_types import CUDA
from settings.personalization import Personalization
from stacks.personalization import variables
from stacks.personalization.alarms import METRICS, pager
from stacks.personalization.functions import OBJECTS, Functions, Surroundings
from stacks.personalization.tables import Tables
from stacks.shared import CONTAINERS, docker_image, key_of, library_layer, network_of, retention, runtime_code

ROOT = Path(__file__).resolve().parents[2]
NAME = "personalization"
FINETUNE, SERVE = (CONTAINERS / NAME / part for part in ("finetune", "serve"))
JOB_ID = "[0-9a-hjkmnp-tv-z]{26}"
"""Regular expression for a training job's name after the stack's name and a hyphen: an id of
`runtime/personalization/core/ids.py`."""
JOB_SUFFIX = 27
"""Length of the hyphen and the id."""


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
        name = physical_name(self, settings.endpoint_name, appended=JOB_SUFFIX)
        keep_logs = retention(settings.log_retention_days)
        key = key_of(self, settings, f"pictures, models, tables and messages of {NAME}")

        # Data
        tables = Tables(self, "Tables", settings=settings, key=key)
        topic = _topic(self, key)
        letters = dead_letters(self, "DeadLetters", key=key)

        # Users, API and site. The bucket's CORS rule names the site's origin, so the site comes first.
        users = Users(
            self,
            "Users",
            self_sign_up=settings.self_sign_up,
            retain=settings.retain,
            deletion_protection=settings.deletion_protection,
        )
        document = ROOT / "runtime" / NAME / "openapi.json"
        api = UserApi(self, "Api", document=document, users=users, log_retention=keep_logs, key=key)
        site = StaticSite(self, "Site", api=api)
        bucket = _bucket(self, settings, key, site)

        # Training and serving
        registry = {"REGISTRY": settings.serving_registry} if settings.serving_registry else None
        finetune = docker_image(self, "Finetune", FINETUNE)
        serve = docker_image(self, "Serve", SERVE, registry)
        clean_up = CleanUp(
            self,
            "CleanUp",
            endpoint_name=name,
            suffixes=(JOB_ID,),
            bucket=None if settings.retain else bucket,
            log_retention=keep_logs,
            key=key,
        )
        training_role = _training_role(self, settings, finetune, bucket)
        endpoint = _endpoint(self, settings, name, serve, bucket, keep_logs)

        # Request processing
        package = Package(
            code=runtime_code(NAME),
            layers=[library_layer(self)],
            dead_letters=letters,
            environment={"POWERTOOLS_SERVICE_NAME": self.stack_name, "POWERTOOLS_METRICS_NAMESPACE": METRICS},
            log_retention=keep_logs,
            key=key,
        )
        # SageMaker refuses a KMS key for instance types with local disks, which are encrypted in hardware
        volume_key = None if has_local_disks(settings.training_instance_type) else key
        network = network_of(training_role, settings)
        job = variables.job_settings(
            settings,
            image=finetune.image_uri,
            role=training_role.role.role_arn,
            tags=tags,
            vpc=network.vpc_config if network else None,
            key=key.key_arn if key else "",
            volume_key=volume_key.key_arn if volume_key else "",
        )
        functions = Functions(
            self,
            package=package,
            variables={
                **{f"{table.upper()}_TABLE": each.table_name for table, each in tables.by_name.items()},
                "DATA_BUCKET": bucket.bucket.bucket_name,
                "ENDPOINT_NAME": name,
                "TOPIC_ARN": topic.topic_arn,
                "JOB_PREFIX": name,
                "JOB_SETTINGS": self.to_json_string(job),
                "LIMITS": json.dumps(variables.limits(settings)),
                "PACE": json.dumps(variables.pace(settings)),
            },
            around=Surroundings(
                name=name,
                tables=tables,
                bucket=bucket,
                topic=topic,
                endpoint=endpoint,
                training_role=training_role,
                volume_key=volume_key,
                key=key,
            ),
            api=api,
            settings=settings,
        ).by_id
        # CloudFormation deletes in reverse order: first functions and endpoint, then the clean-up runs
        for construct in (*functions.values(), endpoint):
            construct.node.add_dependency(clean_up)

        # Web page and alarms
        _page(self, settings, users, site, bucket, keep_logs, key)
        alarms = pager(
            self,
            settings=settings,
            key=key,
            dead_letters=letters,
            api=api,
            endpoint=endpoint,
            sweeper=functions["Sweeper"],
        )

        for output, value in {
            "SiteUrl": site.url,
            "ApiUrl": api.url,
            "UserPoolId": users.pool.user_pool_id,
            "UserPoolClientId": users.client.user_pool_client_id,
            "DataBucket": bucket.bucket.bucket_name,
            "EndpointName": name,
            "JobPrefix": name,
            "StateTopicArn": topic.topic_arn,
            "AlarmTopicArn": alarms.topic.topic_arn,
            "DeadLetterQueueUrl": letters.queue_url,
            "FinetuneImageUri": finetune.image_uri,
            "ServeImageUri": serve.image_uri,
            "TrainingRoleArn": training_role.role.role_arn,
            **{f"{table.title()}Table": each.table_name for table, each in tables.by_name.items()},
            **{
                f"{function.removesuffix('Function')}FunctionName": each.function.function_name
                for function, each in functions.items()
            },
        }.items():
            CfnOutput(self, output, value=value)


def _topic(scope: Construct, key: kms.IKey | None) -> sns.Topic:
    """Create the SNS topic for models that are ready or failed."""
    return sns.Topic(
        scope,
        "States",
        display_name="Models that are ready, and those that failed",
        enforce_ssl=True,
        master_key=key or kms.Alias.from_alias_name(scope, "SnsKey", "alias/aws/sns"),
    )


def _bucket(
    scope: Construct, settings: Personalization, key: kms.IKey | None, site: StaticSite
) -> ArtifactBucket:
    """Create the bucket of pictures and models, with CORS for the web page."""
    return ArtifactBucket(
        scope,
        "Data",
        key=key,
        retain=settings.retain,
        # a job's results are copied out of jobs/ when it ends; uploads are not needed after that
        expire={"jobs": 30, "uploads": 30},
        events=True,
        cors=[
            s3.CorsRule(
                allowed_methods=[s3.HttpMethods.POST, s3.HttpMethods.GET],
                allowed_origins=[site.url],
                allowed_headers=["*"],
                max_age=3600,
            )
        ],
    )


def _page(
    scope: Construct,
    settings: Personalization,
    users: Users,
    site: StaticSite,
    bucket: ArtifactBucket,
    keep_logs: logs.RetentionDays,
    key: kms.IKey | None,
) -> None:
    """Publish the web page with its settings, such as Region, user pool and API."""
    publisher = PythonFunction(
        scope,
        "Publisher",
        package=Package(code=SiteFiles.code(), log_retention=keep_logs, key=key),
        handler="handler.handler",
        description="Puts the page's files into its bucket, with the stack",
        timeout=Duration.minutes(5),
    )
    SiteFiles(
        scope,
        "SiteFiles",
        site=site,
        source=s3_assets.Asset(scope, "Page", path=str(ROOT / "web" / NAME)),
        config={
            "region": Stack.of(scope).region,
            "userPoolId": users.pool.user_pool_id,
            "clientId": users.client.user_pool_client_id,
            "api": "/api",
            "selfSignUp": settings.self_sign_up,
            "limits": settings.limits.model_dump(),
        },
        storage=bucket.bucket,
        publisher=publisher,
    )


def _training_role(
    scope: Construct, settings: Personalization, image: assets.DockerImageAsset, bucket: ArtifactBucket
) -> SageMakerRole:
    """Create the role of the training jobs."""
    role = SageMakerRole(
        scope,
        "Training",
        log_group="/aws/sagemaker/TrainingJobs",
        network=network_of(scope, settings),
    )
    image.repository.grant_pull(role.role)
    for folder in ("uploads", "jobs"):
        bucket.grant_read(role.role, folder)
    bucket.grant_write(role.role, "jobs")
    _read_base(role.role, settings)
    return role


def _endpoint(
    scope: Construct,
    settings: Personalization,
    name: str,
    image: assets.DockerImageAsset,
    bucket: ArtifactBucket,
    keep_logs: logs.RetentionDays,
) -> MultiModelEndpoint:
    """Create the multi-model endpoint that serves the models of all users."""
    endpoint = MultiModelEndpoint(
        scope,
        "Endpoint",
        name=name,
        image=image,
        bucket=bucket,
        folder="adapters",
        instances=Instances(
            type=settings.serving_instance_type,
            min=settings.min_instances,
            max=settings.max_instances,
            invocations=settings.invocations_per_instance,
            cuda=CUDA,
        ),
        environment={
            "GROUNDPLAN_BASE": settings.base,
            "GROUNDPLAN_DEVICE": device(settings.serving_instance_type),
            "GROUNDPLAN_MEMORY": str(settings.serving_memory_mb * 2**20),
            "GROUNDPLAN_PROMPT": str(settings.limits.prompt_chars),
            # the same values as for the previews of a training job
            "GROUNDPLAN_GUIDANCE": f"{settings.hyperparameters.guidance:g}",
            "GROUNDPLAN_STEPS": str(settings.hyperparameters.preview_steps),
        },
        log_retention=keep_logs,
    )
    _read_base(endpoint.role, settings)
    return endpoint


def _read_base(role: iam.Role, settings: Personalization) -> None:
    """Let a role read the base model if it is in a bucket outside of the stack."""
    if not settings.base.startswith("s3://"):
        return
    bucket, _, folder = settings.base.removeprefix("s3://").partition("/")
    there = s3.Bucket.from_bucket_name(role, "Base", bucket)
    allow(role, "s3:GetObject", on=[there.arn_for_objects(f"{folder}*")], because=OBJECTS)
    allow(role, "s3:ListBucket", "s3:GetBucketLocation", on=[there.bucket_arn])
