"""The types of steps: which members each has, which request its arguments are, what other steps may read."""

from __future__ import annotations

from dataclasses import dataclass

COMMON = ("Name", "Type", "Arguments", "DependsOn", "DisplayName", "Description")
"""Members of every step."""


@dataclass(frozen=True)
class StepType:
    """One type of step."""

    metadata: str
    """Its member of the step's `Metadata`."""
    members: tuple[str, ...] = ()
    """Its members besides the common ones."""
    required: tuple[str, ...] = ()
    operation: str | None = None
    """The SageMaker operation whose request the `Arguments` are; None where they are no request."""
    describe: str | None = None
    """The operation whose answer the properties are; None where there are none of an operation's."""
    excluded: tuple[str, ...] = ()
    """Members of the request that a definition must not have: the pipeline sets them."""
    cache_key: tuple[str, ...] = ()
    """Arguments that must be equal for a cached result to be used, as AWS lists them."""


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
"""The types that the local cloud runs."""

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
"""The types that AWS has besides, each with its member of a step's `Metadata`."""

JOBS = {"Training": "TrainingJob", "Processing": "ProcessingJob", "Transform": "TransformJob"}
"""The types that start a job, with the name that its operations have: `CreateTrainingJob`."""
