"""The Lambda functions of labeling, with their permissions."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Duration
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from groundplan import ArtifactBucket, Package, PythonFunction, allow, allow_key
from settings.data_centric import DataCentric
from stacks.data_centric.machines import (
    API_SECONDS,
    CHECK_SECONDS,
    CONSOLIDATE_SECONDS,
    LOAD_SECONDS,
    WATCH_SECONDS,
)
from stacks.data_centric.tables import INDEX

INPUTS, LABELS = "inputs", "labels"
"""Folders of the bucket: `inputs` for objects to label and manifests, `labels` for results."""
OBJECTS = "Objects are named when they are written; the folder is the grant."
GET, PUT, QUERY = (f"dynamodb:{verb}" for verb in ("GetItem", "PutItem", "Query"))
PRE, POST = "PreAnnotation", "PostAnnotation"
"""Construct ids of the annotation functions."""


@dataclass(frozen=True, kw_only=True)
class LabelingTask:
    """A function: its handler's module, description and permissions."""

    module: str
    """In `runtime/data_centric/handlers`"""
    does: str
    rows: tuple[str, ...] = ()
    """DynamoDB actions on the table"""
    due: bool = False
    """Whether it queries the table's index"""
    read: tuple[str, ...] = ()
    """Folders of the bucket to read from; `write` has those to write to"""
    write: tuple[str, ...] = ()
    invokes: str = ""
    """Construct id of the annotation function that it invokes"""
    pseudonyms: bool = False
    """Whether it reads the secret of the labelers' pseudonyms"""
    seconds: int = 60
    memory_mb: int = 256


TASKS = {
    "ApiFunction": LabelingTask(
        module="api",
        does="Gives tasks to labelers and takes their answers",
        rows=(GET, PUT, QUERY),
        due=True,
        # the page loads pictures by URLs that this role presigned
        read=(INPUTS,),
        pseudonyms=True,
        seconds=API_SECONDS,
        memory_mb=512,
    ),
    "Check": LabelingTask(
        module="check_run",
        does="Checks the input of a labeling run and estimates its cost",
        rows=(GET, PUT),
        read=(INPUTS, LABELS),
        seconds=CHECK_SECONDS,
        memory_mb=1024,
    ),
    "Load": LabelingTask(
        module="load_run",
        does="Creates the tasks of a labeling run",
        rows=(GET, PUT),
        read=(INPUTS, LABELS),
        invokes=PRE,
        seconds=LOAD_SECONDS,
        memory_mb=1024,
    ),
    "Watch": LabelingTask(
        module="watch_run",
        does="Requests more labels where labelers disagree, and closes runs",
        rows=(GET, PUT, QUERY),
        due=True,
        seconds=WATCH_SECONDS,
        memory_mb=2048,
    ),
    "Consolidate": LabelingTask(
        module="consolidate_run",
        does="Writes the consolidated labels of a run and its report",
        rows=(GET, PUT, QUERY),
        read=(INPUTS, LABELS),
        write=(LABELS,),
        invokes=POST,
        seconds=CONSOLIDATE_SECONDS,
        memory_mb=2048,
    ),
    PRE: LabelingTask(module="pre_annotation", does="Shows an item as it is", seconds=10),
    POST: LabelingTask(
        module="post_annotation",
        does="Consolidates labelers' answers by the Dawid-Skene model",
        read=(LABELS,),
        seconds=170,
        memory_mb=1024,
    ),
}
"""The functions by construct id."""


class LabelingFunctions:
    """The functions in `TASKS`, created in `scope`, each with a role of least privilege.

    :param package: code, layer and dead-letter queue of all functions.
    :param secret: the secret from which labelers' pseudonyms are derived.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        settings: DataCentric,
        package: Package,
        table: dynamodb.Table,
        bucket: ArtifactBucket,
        secret: secretsmanager.ISecret,
    ) -> None:
        self.by_id: dict[str, PythonFunction] = {}
        """The functions by construct id."""
        variables = {
            "TASKS_TABLE": table.table_name,
            "BUCKET": bucket.bucket.bucket_name,
            "LABELING": settings.labeling.model_dump_json(),
        }
        for id, task in reversed(TASKS.items()):  # an annotation function must exist before its caller
            own = dict(variables)
            if task.invokes:
                own[_variable(task.invokes)] = self._hook(settings, task.invokes)
            if task.pseudonyms:
                own["PSEUDONYM_SECRET_ARN"] = secret.secret_arn
            function = self.by_id[id] = PythonFunction(
                scope,
                id,
                package=package,
                handler=f"data_centric.handlers.{task.module}.handler",
                description=task.does,
                environment=own,
                timeout=Duration.seconds(task.seconds),
                memory_mb=task.memory_mb,
            )
            self._allow(function, task, table, bucket)
            if task.invokes:
                allow(function.role, "lambda:InvokeFunction", on=[own[_variable(task.invokes)]])
            if task.pseudonyms:
                # grant_read would also name the role in the policy of the key, which exists before the role
                allow(function.role, "secretsmanager:GetSecretValue", on=[secret.secret_arn])
            allow_key(function.role, package.key)

    def _hook(self, settings: DataCentric, id: str) -> str:
        """Return the ARN of an annotation function: the function in the settings, or else the stack's."""
        chosen = {PRE: settings.pre_annotation, POST: settings.post_annotation}[id]
        return chosen or self.by_id[id].function.function_arn

    def _allow(
        self, function: PythonFunction, task: LabelingTask, table: dynamodb.Table, bucket: ArtifactBucket
    ) -> None:
        role = function.role
        if task.rows:
            allow(role, *task.rows, on=[table.table_arn])
        if task.due:
            allow(role, QUERY, on=[f"{table.table_arn}/index/{INDEX}"])
        for action, folders in (("s3:GetObject", task.read), ("s3:PutObject", task.write)):
            if folders:
                objects = [bucket.bucket.arn_for_objects(f"{folder}/*") for folder in folders]
                allow(role, action, on=objects, because=OBJECTS)
        if task.read or task.write:
            # without s3:ListBucket, S3 answers 403 instead of 404 for an absent object
            allow(role, "s3:ListBucket", on=[bucket.bucket.bucket_arn])


def _variable(id: str) -> str:
    return {PRE: "PRE_ANNOTATION_ARN", POST: "POST_ANNOTATION_ARN"}[id]
