"""The CreateTrainingJob request of a job."""

from __future__ import annotations

from typing import Any

from personalization.core import keys
from personalization.core.model import Job
from personalization.core.ports import Backend

CHECKPOINTS = "/opt/ml/checkpoints"


def job_request(backend: Backend, job: Job, hosts: int) -> dict[str, Any]:
    """Return the CreateTrainingJob request for `job` on `hosts` instances."""
    settings, root = backend.settings, f"s3://{backend.bucket}/"
    own_base = "uri" in settings.base
    hyperparameters = {name: _text(value) for name, value in settings.hyperparameters.items()}
    if not own_base and "id" in settings.base:
        hyperparameters["base"] = settings.base["id"]
    channels = [
        _channel("tasks", root + keys.tasks(job.job)),
        _channel("images", root + keys.manifest(job.job), "ManifestFile"),
    ]
    request: dict[str, Any] = {
        "TrainingJobName": job.job,
        "RoleArn": settings.role,
        "AlgorithmSpecification": {
            "TrainingImage": settings.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in settings.metrics.items()],
        },
        "HyperParameters": hyperparameters,
        "InputDataConfig": [_channel("base", settings.base["uri"]), *channels] if own_base else channels,
        "OutputDataConfig": {"S3OutputPath": f"{root}jobs"},
        "CheckpointConfig": {"S3Uri": root + keys.checkpoints(job.job), "LocalPath": CHECKPOINTS},
        "ResourceConfig": {
            "InstanceType": settings.instance_type,
            "InstanceCount": hosts,
            "VolumeSizeInGB": settings.volume_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": settings.max_runtime},
        "Environment": {"GROUNDPLAN_DEVICE": settings.device},
        # With the base model in S3, the container needs no network; isolation keeps pictures inside it
        "EnableNetworkIsolation": own_base,
        "Tags": [{"Key": key, "Value": value} for key, value in sorted(settings.tags.items())],
    }
    if job.spot:
        request["EnableManagedSpotTraining"] = True
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = 2 * settings.max_runtime
    if job.warm:
        request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = settings.keep_alive
    if settings.key:
        request["OutputDataConfig"]["KmsKeyId"] = settings.key
    if settings.volume_key:
        request["ResourceConfig"]["VolumeKmsKeyId"] = settings.volume_key
    if settings.vpc:
        request["VpcConfig"] = {
            "Subnets": list(settings.vpc["subnets"]),
            "SecurityGroupIds": list(settings.vpc["security_groups"]),
        }
    return request


def _channel(name: str, uri: str, kind: str = "S3Prefix") -> dict[str, Any]:
    source = {"S3DataType": kind, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _text(value: Any) -> str:
    """Return a hyperparameter as text, as SageMaker requires."""
    return str(value).lower() if isinstance(value, bool) else str(value)
