"""The API operations of pipelines."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.sagemaker import quotas, records, tags
from local.sagemaker.api import Context, invalid, now, operation, page
from local.sagemaker.pipelines import definition, executions
from local.sagemaker.pipelines.executions import pipeline_arn, pipeline_of
from local.sagemaker.pipelines.state import ENDED, EXECUTION, PIPELINE, conflict
from local.sagemaker.quotas import setting
from local.sagemaker.store import Record


def _definition_of(context: Context, params: dict[str, Any]) -> str | None:
    """Check and return the text of a request's definition; None if the request has none. Raises ApiError."""
    text, place = params.get("PipelineDefinition"), params.get("PipelineDefinitionS3Location")
    if text and place:
        raise invalid("Only one of PipelineDefinition and PipelineDefinitionS3Location can be given.")
    if place:
        text = _fetch(context, place)
    if text is None:
        return None
    found = definition.parse(text)
    for what, given in (("steps", found.steps), ("parameters", found.parameters)):
        most = setting(context.platform, f"pipeline_{what}")
        if len(given) > most:
            raise invalid(f"A pipeline definition can have at most {most} {what}, got {len(given)}.")
    return text


def _fetch(context: Context, place: dict[str, Any]) -> str:
    """Return a definition's text from S3. Raises ApiError if it is missing or the caller may not read it."""
    bucket, key, version = place["Bucket"], place["ObjectKey"], place.get("VersionId")
    if context.access_key is not None:
        action = "s3:GetObjectVersion" if version else "s3:GetObject"
        resource = f"arn:aws:s3:::{bucket}/{key}"
        context.platform.authorize(context.account, context.region, context.access_key, action, resource)
    s3 = context.platform.client("s3", context.account, context.region, "", "SageMaker")
    which = {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
    try:
        return s3.get_object(**which)["Body"].read().decode()
    except (ClientError, BotoCoreError, UnicodeDecodeError) as error:
        raise invalid(f"The pipeline definition s3://{bucket}/{key} could not be read: {error}") from None


@operation("CreatePipeline", records.named(PIPELINE, "PipelineName"), roles=("RoleArn",))
def create_pipeline(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    name, token, store = params["PipelineName"], params["ClientRequestToken"], context.store
    arn = context.arn(PIPELINE, name)
    if (store.get(PIPELINE, name) or {}).get("_Token") == token:  # a repeated request
        return {"PipelineArn": arn}
    text = _definition_of(context, params)
    if text is None:
        raise invalid("One of PipelineDefinition and PipelineDefinitionS3Location must be given.")
    given = ("PipelineName", "PipelineDescription", "RoleArn", "ParallelismConfiguration")
    record = records.summary(params, *given) | {
        "PipelineArn": arn,
        "PipelineDisplayName": params.get("PipelineDisplayName", name),
        "PipelineDefinition": text,
        "PipelineStatus": "Active",
        "CreationTime": now(),
        "LastModifiedTime": now(),
        "CreatedBy": {},
        "LastModifiedBy": {},
        "_Token": token,
    }
    taken = (
        "Pipeline names must be unique within an AWS account and region. "
        f"Pipeline with name ({name}) already exists."
    )
    with store.store.exclusive():
        most, used = setting(context.platform, "pipelines"), len(list(store.all(PIPELINE)))
        if used >= most and store.get(PIPELINE, name) is None:
            quota = "Maximum number of pipelines allowed per account"
            raise quotas.limit_exceeded(quota, most, used, 1, "Pipelines")
        records.create(context, PIPELINE, name, record, params.get("Tags"), taken)
    return {"PipelineArn": arn}


@operation("UpdatePipeline", records.named(PIPELINE, "PipelineName"), roles=("RoleArn",))
def update_pipeline(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    pipeline = pipeline_of(context, params)
    members = ("PipelineDisplayName", "PipelineDescription", "RoleArn", "ParallelismConfiguration")
    changes = records.summary(params, *members) | {"LastModifiedTime": now(), "LastModifiedBy": {}}
    if text := _definition_of(context, params):
        changes["PipelineDefinition"] = text
    context.store.change(PIPELINE, pipeline["PipelineName"], lambda record: record | changes)
    return {"PipelineArn": pipeline["PipelineArn"]}


@operation("DescribePipeline", pipeline_arn)
def describe_pipeline(context: Context, params: dict[str, Any]) -> Record:
    return pipeline_of(context, params)


@operation("DeletePipeline", records.named(PIPELINE, "PipelineName"))
def delete_pipeline(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    pipeline = pipeline_of(context, params)
    name, arn, store = pipeline["PipelineName"], pipeline["PipelineArn"], context.store
    with store.store.exclusive():
        of_it = executions.of_pipeline(context, arn)
        running = [each for each in of_it if each["PipelineExecutionStatus"] not in ENDED]
        if running:
            raise conflict(f"Pipeline {arn} cannot be deleted: {len(running)} executions are running.")
        store.remove(PIPELINE, name)
        for each in of_it:
            store.remove(EXECUTION, executions.name_of(each["PipelineExecutionArn"]))
    tags.forget(context, arn)
    return {"PipelineArn": arn}


@operation("ListPipelines")
def list_pipelines(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    members = (
        *("PipelineName", "PipelineArn", "PipelineDisplayName", "PipelineDescription", "RoleArn"),
        *("CreationTime", "LastModifiedTime", "LastRunTime"),
    )
    found = [records.summary(each, *members) for each in context.store.all(PIPELINE)]
    for each in found:
        if "LastRunTime" in each:
            each["LastExecutionTime"] = each.pop("LastRunTime")
    prefix = params.get("PipelineNamePrefix", "")
    found = [each for each in found if each["PipelineName"].startswith(prefix)]
    if params.get("ManagedBy") == "AWS":  # there are no pipelines that AWS manages
        found = []
    return page(executions.created(params), found, "PipelineSummaries")
