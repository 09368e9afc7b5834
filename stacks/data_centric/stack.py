"""Train on the data that matters: consistent labels, and the examples that teach most."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import CfnOutput, Duration, Stack, Tags
from aws_cdk import aws_cognito as cognito
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from groundplan import (
    ArtifactBucket,
    CleanUp,
    Package,
    PythonFunction,
    SageMakerRole,
    SiteFiles,
    StaticSite,
    UserApi,
    Users,
    acknowledge,
    allow,
    dead_letters,
    physical_name,
    state_machine,
)
from settings.data_centric import DataCentric
from stacks.data_centric import machines
from stacks.data_centric.alarms import METRICS, watch
from stacks.data_centric.examine import Examination
from stacks.data_centric.functions import LabelingFunctions
from stacks.data_centric.sweep import Sweep, SweepFunctions
from stacks.data_centric.sweep_machine import SweepJobs
from stacks.data_centric.tables import pseudonym_key, tasks_table
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

NAME = "data_centric"
OPERATORS = "operators"
"""Group of the users who may see the progress of runs. `runtime/data_centric/core/api.py` checks it."""


class DataCentricStack(Stack):
    def __init__(self, scope: Construct, id: str, *, env_name: str, settings: DataCentric) -> None:
        super().__init__(
            scope,
            id,
            description="Groundplan: labels by several labelers, and training on the data that matters",
        )
        tags = {"groundplan:architecture": NAME, "groundplan:environment": env_name}
        for tag, value in tags.items():
            Tags.of(self).add(tag, value)
        keep_logs = retention(settings.log_retention_days)
        key = key_of(self, settings, f"data, tasks, labels and messages of {NAME}")
        letters = dead_letters(self, "DeadLetters", key=key)

        # Users, API and site
        users = Users(
            self,
            "Users",
            self_sign_up=settings.self_sign_up,
            retain=settings.retain,
            deletion_protection=settings.deletion_protection,
        )
        cognito.CfnUserPoolGroup(
            self,
            "Operators",
            user_pool_id=users.pool.user_pool_id,
            group_name=OPERATORS,
            description="May see the progress of labeling runs",
        )
        document = ROOT / "runtime" / NAME / "openapi.json"
        api = UserApi(self, "Api", document=document, users=users, log_retention=keep_logs, key=key)
        site = StaticSite(self, "Site", api=api)

        # Data
        bucket = ArtifactBucket(
            self,
            "Data",
            key=key,
            retain=settings.retain,
            # the page loads pictures by presigned URLs
            cors=[
                s3.CorsRule(allowed_methods=[s3.HttpMethods.GET], allowed_origins=[site.url], max_age=3600)
            ],
        )

        # Labeling
        package = Package(
            code=runtime_code(NAME),
            layers=[library_layer(self)],
            dead_letters=letters,
            environment={"POWERTOOLS_SERVICE_NAME": self.stack_name, "POWERTOOLS_METRICS_NAMESPACE": METRICS},
            log_retention=keep_logs,
            key=key,
        )
        table = tasks_table(self, settings, key)
        functions = LabelingFunctions(
            self,
            settings=settings,
            package=package,
            table=table,
            bucket=bucket,
            secret=pseudonym_key(self, settings, key),
        ).by_id
        api.serve(functions["ApiFunction"])
        label = self._label(settings, functions, package)
        self._page(settings, users, site, bucket, package, key)
        network = network_of(self, settings)
        examination = Examination(
            self,
            "Examine",
            image=docker_image(self, "QualityImage", CONTAINERS / NAME / "label_quality"),
            bucket=bucket,
            network=network,
            log_retention=keep_logs,
            tags=tags,
        )

        # Training
        chosen = settings.sweep
        role = SageMakerRole(self, "Training", log_group="/aws/sagemaker/TrainingJobs", network=network)
        jobs = SweepJobs(
            image=docker_image(self, "TrainingImage", CONTAINERS / NAME / "subset_training"),
            role=role,
            instance_type=chosen.instance_type,
            volume_gb=chosen.volume_gb,
            max_runtime=Duration.minutes(chosen.max_runtime_minutes),
            at_once=chosen.at_once,
            hosts=chosen.hosts,
            network=network,
        )
        sweep_functions = SweepFunctions(self, jobs=jobs, bucket=bucket, package=package)
        sweep = Sweep(
            self,
            "Sweep",
            jobs=jobs,
            functions=sweep_functions,
            bucket=bucket,
            tracking=chosen.tracking,
            log_retention=keep_logs,
            tags=tags,
        )
        pager = watch(
            self,
            settings=settings,
            key=key,
            letters=letters,
            label=label,
            examination=examination,
            sweep=sweep,
            api=api,
        )

        # CloudFormation deletes in reverse order: first the resources that write to the bucket, then its
        # objects
        clean_up = CleanUp(
            self,
            "CleanUp",
            endpoint_name=physical_name(self),
            suffixes=("sweep-[0-9a-f]{12}-.+",),
            other_jobs={"HyperParameterTuningJob": sweep.search_name, "ProcessingJob": examination.name},
            bucket=None if settings.retain else bucket,
            log_retention=keep_logs,
            key=key,
        )
        for writer in (
            *functions.values(),
            sweep_functions.plan,
            sweep_functions.compare,
            label,
            examination.state_machine,
            sweep.state_machine,
        ):
            writer.node.add_dependency(clean_up)

        for output, value in {
            "SiteUrl": site.url,
            "ApiUrl": api.url,
            "UserPoolId": users.pool.user_pool_id,
            "UserPoolClientId": users.client.user_pool_client_id,
            "DataBucket": bucket.bucket.bucket_name,
            "LabelArn": label.state_machine_arn,
            "ExamineArn": examination.state_machine.state_machine_arn,
            "SweepArn": sweep.state_machine.state_machine_arn,
            "TasksTable": table.table_name,
            "AlarmTopicArn": pager.topic.topic_arn,
            "DeadLetterQueueUrl": letters.queue_url,
            **{
                f"{function.removesuffix('Function')}FunctionName": each.function.function_name
                for function, each in functions.items()
            },
        }.items():
            CfnOutput(self, output, value=value)

    def _label(
        self, settings: DataCentric, functions: Mapping[str, PythonFunction], package: Package
    ) -> sfn.StateMachine:
        """Create the state machine of labeling runs, which calls `functions`."""
        arns = {step: functions[step].function.function_arn for step in machines.STEPS}
        place = Construct(self, "Label")
        role = iam.Role(place, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        allow(role, "lambda:InvokeFunction", on=list(arns.values()))
        acknowledge(
            role,
            {"AwsSolutions-IAM5[Resource::*]": "IAM knows no resource for traces and the delivery of logs."},
        )
        return state_machine(
            place,
            name=f"{self.stack_name}-label",
            definition=machines.label(settings, arns),
            role=role,
            log_retention=package.log_retention,
            key=package.key,
        )

    def _page(
        self,
        settings: DataCentric,
        users: Users,
        site: StaticSite,
        bucket: ArtifactBucket,
        package: Package,
        key: kms.IKey | None,
    ) -> None:
        """Publish the web page with its settings, such as Region, user pool and API."""
        publisher = PythonFunction(
            self,
            "Publisher",
            package=Package(code=SiteFiles.code(), log_retention=package.log_retention, key=key),
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
                "selfSignUp": settings.self_sign_up,
            },
            storage=bucket.bucket,
            publisher=publisher,
        )
