"""The types of steps: their members, the operation that takes their arguments, and their properties."""

from __future__ import annotations

from dataclasses import dataclass

COMMON = ("Name", "Type", "Arguments", "DependsOn", "DisplayName", "Description")
"""Members of every step."""


@dataclass(frozen=True)
class StepType:
    """One type of step."""

    metadata: str
    """Name of the member for this type in a step's `Metadata`"""
    members: tuple[str, ...] = ()
    """Members of a step of this type in addition to `COMMON`"""
    required: tuple[str, ...] = ()
    operation: str | None = None
    """SageMaker operation whose request is in `Arguments`; None: `Arguments` is not a request"""
    describe: str | None = None
    """Operation whose response has the step's properties; None: the properties come from no operation"""
    excluded: tuple[str, ...] = ()
    """Members of the request that a definition must not have, because the pipeline sets them"""
    cache_key: tuple[str, ...] = ()
    """Arguments that must be equal for a cached result to be used, from AWS's documentation"""


_RETRIED_AND_CACHED = ("RetryPolicies", "CacheConfig")

TYPES = {
    "Training": StepType(
        "TrainingJob",
        members=_RETRIED_AND_CACHED,
        required=("Arguments",),
        operation="CreateTrainingJob",
        describe="DescribeTrainingJob",
        cache_key=(
            *("AlgorithmSpecification", "CheckpointConfig", "DebugHookConfig", "DebugRuleConfigurations"),
            *("Environment", "HyperParameters", "InputDataConfig"),
        ),
    ),
    "Processing": StepType(
        "ProcessingJob",
        members=(*_RETRIED_AND_CACHED, "PropertyFiles"),
        required=("Arguments",),
        operation="CreateProcessingJob",
        describe="DescribeProcessingJob",
        cache_key=("AppSpecification", "Environment", "ProcessingInputs"),
    ),
    "Transform": StepType(
        "TransformJob",
        members=_RETRIED_AND_CACHED,
        required=("Arguments",),
        operation="CreateTransformJob",
        describe="DescribeTransformJob",
        cache_key=("DataProcessing", "Environment", "ModelName", "TransformInput"),
    ),
    "Model": StepType(
        "Model",
        members=("RetryPolicies",),
        required=("Arguments",),
        operation="CreateModel",
        describe="DescribeModel",
        excluded=("ModelName",),
    ),
    "RegisterModel": StepType(
        "RegisterModel",
        members=("RetryPolicies",),
        required=("Arguments",),
        operation="CreateModelPackage",
        describe="DescribeModelPackage",
        excluded=("ModelPackageName", "ClientToken", "CertifyForMarketplace"),
    ),
    "Lambda": StepType(
        "Lambda",
        members=("CacheConfig", "FunctionArn", "OutputParameters"),
        required=("FunctionArn",),
    ),
    "Callback": StepType(
        "Callback",
        members=("CacheConfig", "SqsQueueUrl", "OutputParameters"),
        required=("SqsQueueUrl",),
    ),
    "Condition": StepType("Condition", required=("Arguments",)),
    "Fail": StepType("Fail", required=("Arguments",)),
}
"""Types of steps that the local cloud supports."""

UNBUILT = {
    "Athena": "Athena",
    "AutoML": "AutoMLJob",
    "BedrockCustomModel": "BedrockCustomModel",
    "BedrockCustomModelDeployment": "BedrockCustomModelDeployment",
    "BedrockModelImport": "BedrockModelImport",
    "BedrockProvisionedModelThroughput": "BedrockProvisionedModelThroughput",
    "ClarifyCheck": "ClarifyCheck",
    "Cleanup": "Cleanup",
    "EMR": "EMR",
    "EMRServerless": "EMRServerless",
    "Endpoint": "Endpoint",
    "EndpointConfig": "EndpointConfig",
    "ForEach": "ForEach",
    "HubContent": "HubContent",
    "InferenceComponent": "InferenceComponent",
    "Job": "Job",
    "Lineage": "Lineage",
    "QualityCheck": "QualityCheck",
    "Tuning": "TuningJob",
}
"""Types of steps that AWS has and the local cloud lacks, with their member in a step's `Metadata`."""

JOBS = {"Training": "TrainingJob", "Processing": "ProcessingJob", "Transform": "TransformJob"}
"""Types of steps that start a job, with the name in the job's operations, as in `CreateTrainingJob`."""
