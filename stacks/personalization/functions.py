"""The Lambda functions, with their settings, permissions and triggers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aws_cdk import Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from groundplan import (
    ArtifactBucket,
    MultiModelEndpoint,
    Package,
    PythonFunction,
    SageMakerRole,
    UserApi,
    allow,
    allow_key,
)
from settings.personalization import Personalization
from stacks.personalization.tables import Tables

OBJECTS = "Objects are named when they are written; the folder is the grant."
JOBS = "Jobs are named after the stack when they are made."
GET, PUT, UPDATE, DELETE, QUERY = (
    f"dynamodb:{verb}" for verb in ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query")
)
RECORD = {"Records": [{"s3": {"object": {"key": events.EventField.from_path("$.detail.object.key")}}}]}
"""Transforms an EventBridge event into the format of S3 event notifications."""
CHECK, BATCH_GET = "dynamodb:ConditionCheckItem", "dynamodb:BatchGetItem"


@dataclass(frozen=True, kw_only=True)
class Work:
    """Permissions for one kind of work."""

    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """DynamoDB actions by table name."""
    indexes: Mapping[str, str] = field(default_factory=dict)
    """The index to query, by table name."""
    read: tuple[str, ...] = ()
    """Prefixes in the data bucket to read; `write` and `delete` have those to write and to delete. Any of the
    three adds s3:ListBucket."""
    write: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    """SageMaker actions on the stack's training jobs."""
    starts_jobs: bool = False
    """Adds iam:PassRole for the training role, and kms:CreateGrant for the key of the jobs' volumes."""
    publishes: bool = False
    """Adds sns:Publish on the topic."""
    generates: bool = False
    """Adds sagemaker:InvokeEndpoint."""


ANSWER = Work(
    rows={
        "users": (GET, UPDATE),
        "models": (GET, PUT, UPDATE, CHECK, QUERY),
        "requests": (GET, PUT),
        "jobs": (GET,),
        "generations": (GET, PUT, UPDATE, QUERY),
    },
    read=("uploads", "jobs", "previews", "generations"),
    # the page uploads with URLs that this role presigned
    write=("uploads", "generations"),
    delete=("generations",),
    generates=True,
)
DISPATCH = Work(
    rows={
        "users": (UPDATE,),
        "models": (UPDATE,),
        "requests": (BATCH_GET, UPDATE),
        "jobs": (GET, PUT, UPDATE),
    },
    indexes={"requests": "queue", "jobs": "open"},
    read=("jobs",),
    write=("jobs",),
    jobs=("CreateTrainingJob", "AddTags", "DescribeTrainingJob"),
    starts_jobs=True,
)
PREPARE = Work(
    rows={
        "users": (UPDATE,),
        "models": (UPDATE,),
        "requests": (BATCH_GET, UPDATE),
        "jobs": (GET, UPDATE),
    },
    read=("jobs",),
    write=("adapters", "previews"),
    delete=("adapters", "previews"),
)
NOTIFY = Work(rows={"requests": (GET, UPDATE)}, publishes=True)
PURGE = Work(
    rows={
        "models": (DELETE,),
        "requests": (BATCH_GET, UPDATE),
        "jobs": (GET,),
        "generations": (QUERY, DELETE),
    },
    delete=("uploads", "jobs", "adapters", "previews", "generations"),
    jobs=("StopTrainingJob",),
)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A function: its handler's module, description, permissions, timeout in seconds and memory in MB."""

    module: str
    """In `runtime/personalization/handlers`."""
    does: str
    work: tuple[Work, ...]
    seconds: int = 60
    memory_mb: int = 256


TASKS = {
    "ApiFunction": Task(
        module="api",
        does="Answers the users of personalization",
        work=(ANSWER,),
        seconds=29,
        memory_mb=1024,
    ),
    "Dispatcher": Task(
        module="dispatch", does="Packs waiting requests into training jobs, at a pace", work=(DISPATCH,)
    ),
    "Collector": Task(
        module="collect",
        does="Moves the requests of a training job on",
        # when a job ends, this function also purges the requests that were deleted while the job ran
        work=(PREPARE, PURGE, Work(jobs=("DescribeTrainingJob",))),
        seconds=300,
    ),
    "Preparer": Task(
        module="prepare", does="Prepares a fine-tune's result for the endpoint", work=(PREPARE,), seconds=300
    ),
    "Notifier": Task(
        module="notify", does="Tells of models that are ready and of those that failed", work=(NOTIFY,)
    ),
    "Purger": Task(module="purge", does="Deletes the data of a deleted model", work=(PURGE,), seconds=300),
    # the sweeper does the work of functions whose event was lost, so it has the permissions of all of them
    "Sweeper": Task(
        module="sweep",
        does="Finds what no event told of, and moves it on",
        work=(DISPATCH, PREPARE, NOTIFY, PURGE, Work(rows={"requests": (DELETE,)})),
        seconds=300,
    ),
}
"""The functions by construct id."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The resources that the functions use."""

    name: str
    """Name of the endpoint, and prefix of the names of training jobs."""
    tables: Tables
    bucket: ArtifactBucket
    topic: sns.Topic
    endpoint: MultiModelEndpoint
    training_role: SageMakerRole
    volume_key: kms.IKey | None
    """Encrypts the volumes of training jobs."""
    key: kms.IKey | None
    """Encrypts everything else."""


class Functions:
    """The functions in `TASKS`, created in `scope`, each with a role of least privilege.

    :param package: code, layer and dead-letter queue of all functions.
    :param variables: environment variables of all functions.
    :param around: the resources that the functions use.
    :param api: the API that `ApiFunction` serves.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        package: Package,
        variables: Mapping[str, str],
        around: Surroundings,
        api: UserApi,
        settings: Personalization,
    ) -> None:
        self._around = around
        self.by_id: dict[str, PythonFunction] = {}
        """The functions by construct id."""
        for id, task in TASKS.items():
            function = self.by_id[id] = PythonFunction(
                scope,
                id,
                package=package,
                handler=f"personalization.handlers.{task.module}.handler",
                description=task.does,
                environment=variables,
                timeout=Duration.seconds(task.seconds),
                memory_mb=task.memory_mb,
                reserved_concurrency=(settings.reserved_concurrency or None) if id == "ApiFunction" else None,
            )
            for work in task.work:
                self._allow(function, work)
            self._start(id, function, api, settings)
        for function in self.by_id.values():
            allow_key(function.role, around.key)

    def _start(self, id: str, function: PythonFunction, api: UserApi, settings: Personalization) -> None:
        """Add the triggers of a function."""
        around = self._around
        match id:
            case "ApiFunction":
                api.serve(function)
            case "Dispatcher":
                # A model and its request are queued in one transaction. Two functions already read the stream
                # of the requests table, and DynamoDB throttles a shard with more readers. So this function
                # reads the stream of the models table.
                function.on_changes("Queued", around.tables.models, [_status("QUEUED")])
                function.every("EveryMinute", Duration.minutes(1))
            case "Collector":
                function.on_events(
                    "JobChanged",
                    events.EventPattern(
                        source=["aws.sagemaker"],
                        detail_type=["SageMaker Training Job State Change"],
                        detail={"TrainingJobName": [{"prefix": f"{around.name}-"}]},
                    ),
                )
            case "Preparer":
                function.on_events(
                    "ResultWritten",
                    events.EventPattern(
                        source=["aws.s3"],
                        detail_type=["Object Created"],
                        detail={
                            "bucket": {"name": [around.bucket.bucket.bucket_name]},
                            "object": {"key": [{"wildcard": "jobs/*/checkpoints/*/result.json"}]},
                        },
                    ),
                    input=events.RuleTargetInput.from_object(RECORD),
                )
            case "Notifier":
                function.on_changes("Settled", around.tables.requests, [_status("READY", "FAILED")])
            case "Purger":
                function.on_changes("Deleted", around.tables.requests, [_status("DELETED")])
            case "Sweeper":
                function.every("Regularly", Duration.minutes(settings.sweep_minutes))

    def _allow(self, function: PythonFunction, work: Work) -> None:
        """Grant a function the permissions of one kind of work."""
        around, role = self._around, function.role
        for name, actions in work.rows.items():
            allow(role, *actions, on=[around.tables.by_name[name].table_arn])
        for name, index in work.indexes.items():
            allow(role, QUERY, on=[f"{around.tables.by_name[name].table_arn}/index/{index}"])
        bucket = around.bucket.bucket
        for action, folders in (
            ("s3:GetObject", work.read),
            ("s3:PutObject", work.write),
            ("s3:DeleteObject", work.delete),
        ):
            if folders:
                objects = [bucket.arn_for_objects(f"{folder}/*") for folder in folders]
                allow(role, action, on=objects, because=OBJECTS)
        if work.read or work.write or work.delete:
            allow(role, "s3:ListBucket", on=[bucket.bucket_arn])
        if work.jobs:
            jobs = Stack.of(function).format_arn(
                service="sagemaker", resource="training-job", resource_name=f"{around.name}-*"
            )
            allow(role, *(f"sagemaker:{verb}" for verb in work.jobs), on=[jobs], because=JOBS)
        if work.starts_jobs:
            around.training_role.grant_pass(role)
            if around.volume_key:
                allow(
                    role,
                    "kms:CreateGrant",
                    on=[around.volume_key.key_arn],
                    only_if={"Bool": {"kms:GrantIsForAWSResource": "true"}},
                )
        if work.publishes:
            allow(role, "sns:Publish", on=[around.topic.topic_arn])
        if work.generates:
            around.endpoint.grant_invoke(role)


def _status(*statuses: str) -> Mapping[str, Any]:
    """Return the filter pattern for rows whose new status is one of these."""
    return {"dynamodb": {"NewImage": {"status": {"S": list(statuses)}}}}
