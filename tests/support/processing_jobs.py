"""Processing jobs whose container runs a script given by the test."""

from __future__ import annotations

import functools
from typing import Any

from tests.support import jobs
from tests.support.jobs import names

BUCKET = "processing-tests"
ROLE = "arn:aws:iam::000000000000:role/processing"
IMAGE = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/processing-tests:1"
DOCKERFILE = """
FROM public.ecr.aws/docker/library/python:3.11-slim
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-c", "print('the own entry point')"]
"""
CODE = "/opt/ml/processing/input/code"
PROGRAM = """
import json, os, pathlib, signal, socket, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
resources = json.loads((base / "config" / "resourceconfig.json").read_text())
host, hosts = resources["current_host"], resources["hosts"]
processing, out = base / "processing", base / "processing" / "out"
"""
"""First lines of every script."""
PACES = {
    "processing_upload_interval": 0.1,
    "processing_log_interval": 0.1,
    "processing_stop_grace": 2.0,
}


def source(name: str, uri: str, **members: Any) -> dict[str, Any]:
    """Return an input at /opt/ml/processing/NAME."""
    given = {"S3Uri": uri, "LocalPath": f"/opt/ml/processing/{name}", "S3DataType": "S3Prefix"}
    return {"InputName": name, "S3Input": given | {"S3InputMode": "File"} | members}


def output(mode: str = "EndOfJob", name: str = "out", **members: Any) -> dict[str, Any]:
    """Return an output from /opt/ml/processing/NAME to NAME in the bucket."""
    given = {"S3Uri": f"s3://{BUCKET}/{name}", "LocalPath": f"/opt/ml/processing/{name}"}
    return {"OutputName": name, "S3Output": given | {"S3UploadMode": mode} | members}


def request(s3: Any, script: str, instances: int = 1, **members: Any) -> dict[str, Any]:
    """Return a request for a job that runs this script, which is an input of the job, as with the SDK's
    ScriptProcessor.

    Its output is below the job's name in the bucket. A member that is None is left out.
    """
    name = members.pop("ProcessingJobName", None) or f"processing-{next(names)}"
    key = f"code/{name}/run.py"
    s3.put_object(Bucket=BUCKET, Key=key, Body=(PROGRAM + script).encode())
    code = {"InputName": "code", "S3Input": source("code", f"s3://{BUCKET}/{key}", LocalPath=CODE)["S3Input"]}
    outputs = members.pop("outputs", [output(S3Uri=f"s3://{BUCKET}/{name}")])
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": instances, "VolumeSizeInGB": 1}
    params = {
        "ProcessingJobName": name,
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["python", f"{CODE}/run.py"]},
        "RoleArn": ROLE,
        "ProcessingResources": {"ClusterConfig": cluster | members.pop("cluster", {})},
        "ProcessingInputs": [code, *members.pop("inputs", [])],
        "ProcessingOutputConfig": {"Outputs": outputs},
        "StoppingCondition": {"MaxRuntimeInSeconds": 120},
        "Environment": {"TEST_JOB": name} | members.pop("environment", {}),
    } | members
    return {member: value for member, value in params.items() if value is not None}


ended = functools.partial(jobs.ended, noun="Processing")


def run(sagemaker: Any, s3: Any, script: str, instances: int = 1, **members: Any) -> dict[str, Any]:
    params = request(s3, script, instances, **members)
    sagemaker.create_processing_job(**params)
    return ended(sagemaker, params["ProcessingJobName"])


def objects(s3: Any, prefix: str) -> dict[str, str]:
    """Return the texts of the objects below a prefix of the bucket, by the part of their keys after the
    prefix."""
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {
        each["Key"].removeprefix(prefix): s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"]
        .read()
        .decode()
        for each in found
    }
