"""Training jobs whose container runs a script given by the test."""

from __future__ import annotations

import io
import tarfile
from typing import Any

from tests.support.jobs import BUCKET, ended, names

ROLE = "arn:aws:iam::000000000000:role/training"
IMAGE = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/training-tests:1"
DOCKERFILE = """
FROM public.ecr.aws/docker/library/python:3.11-slim
ENV PYTHONUNBUFFERED=1
COPY train.py /opt/program/train.py
ENTRYPOINT ["python", "/opt/program/train.py"]
"""
PROGRAM = """
import json, os, pathlib, signal, socket, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
config = base / "input" / "config"
resources = json.loads((config / "resourceconfig.json").read_text())
host, hosts = resources["current_host"], resources["hosts"]
exec(json.loads((config / "hyperparameters.json").read_text())["script"])
"""
"""Program of a container that runs the code in a hyperparameter."""
PACES = {
    "training_checkpoint_interval": 0.2,
    "training_log_interval": 0.1,
    "training_stop_grace": 2.0,
    "create_training_job_burst": 50,
    "create_training_job_per_second": 50.0,
}


def request(script: str, instances: int = 1, **members: Any) -> dict[str, Any]:
    algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File"} | members.pop("algorithm", {})
    return {
        "TrainingJobName": next(names),
        "AlgorithmSpecification": algorithm,
        "RoleArn": ROLE,
        "HyperParameters": {"script": script},
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": instances, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    } | members


def channel(name: str, uri: str, distribution: str = "FullyReplicated") -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": distribution}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def run(sagemaker: Any, script: str, instances: int = 1, **members: Any) -> dict[str, Any]:
    params = request(script, instances, **members)
    sagemaker.create_training_job(**params)
    return ended(sagemaker, params["TrainingJobName"])


def in_training(sagemaker: Any, name: str) -> bool:
    return sagemaker.describe_training_job(TrainingJobName=name)["SecondaryStatus"] == "Training"


def archive(s3: Any, uri: str) -> dict[str, str]:
    """Return the files of an archive in S3, as text by name."""
    body = s3.get_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {
            member.name: tar.extractfile(member).read().decode()  # pyright: ignore[reportOptionalMemberAccess]
            for member in tar.getmembers()
        }


def spot(**limits: int) -> dict[str, Any]:
    return {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120} | limits,
    }
