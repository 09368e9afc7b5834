"""Members of requests that the local SageMaker refuses or ignores.

Every member of every implemented operation is either read by the operation, refused here, or listed here with
the reason why it has no effect: `tests/unit/test_sagemaker_members.py` checks this against botocore's model.
In a path, `[]` marks a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MODEL_SOURCE = ("HubAccessConfig", "ManifestS3Uri", "ETag", "ManifestEtag")
_CONTAINER = (
    *(f"ModelDataSource.S3DataSource.{each}" for each in _MODEL_SOURCE),
    *("AdditionalModelDataSources", "ContainerMetricsConfig"),
)

UNBUILT: Mapping[str, tuple[str, ...]] = {
    "CreateModel": (
        *(f"{where}.{each}" for where in ("PrimaryContainer", "Containers[]") for each in _CONTAINER),
        "InferenceExecutionConfig",
    ),
    "CreateEndpointConfig": (
        "ProductionVariants[].CoreDumpConfig",
        "ProductionVariants[].EnableSSMAccess",
        "ProductionVariants[].CapacityReservationConfig",
        "ProductionVariants[].AcceleratorPartitionLayouts",
        "ProductionVariants[].AcceleratorType",
        "DataCaptureConfig.EnableCapture",
        "MetricsConfig",
        "CrossRegionTrafficConfig",
    ),
    "CreateTrainingJob": (
        "AlgorithmSpecification.EnableSageMakerMetricsTimeSeries",
        "InputDataConfig[].DataSource.S3DataSource.HubAccessConfig",
        "InputDataConfig[].DataSource.S3DataSource.AttributeNames",
        "ResourceConfig.TrainingPlanArn",
        "ResourceConfig.InstancePlacementConfig",
        "ResourceConfig.InstancePreferences",
        "DebugHookConfig.HookParameters",
        "DebugHookConfig.CollectionConfigurations",
        "TensorBoardOutputConfig",
        "ExperimentConfig",
        "ProfilerConfig.ProfilingParameters",
        "RetryStrategy",
        "RemoteDebugConfig.EnableRemoteDebug",
        "InfraCheckConfig.EnableInfraCheck",
        "SessionChainingConfig.EnableSessionTagChaining",
    ),
    "CreateHyperParameterTuningJob": (
        *(
            f"TrainingJobDefinition.{each}"
            for each in (
                "AlgorithmSpecification.AlgorithmName",
                "InputDataConfig[].DataSource.S3DataSource.HubAccessConfig",
                "InputDataConfig[].DataSource.S3DataSource.AttributeNames",
                "ResourceConfig.TrainingPlanArn",
                "ResourceConfig.InstancePlacementConfig",
                "ResourceConfig.InstancePreferences",
            )
        ),
    ),
    "CreateProcessingJob": (
        "ProcessingInputs[].DatasetDefinition",
        "ProcessingOutputConfig.Outputs[].FeatureStoreOutput",
        "ProcessingResources.ClusterConfig.InstancePreferences",
        "ExperimentConfig",
    ),
    "CreateTransformJob": ("DataCaptureConfig", "ExperimentConfig"),
    "CreateLabelingJob": (
        "InputConfig.DataSource.SnsDataSource",
        "OutputConfig.SnsTopicArn",
        "LabelingJobAlgorithmsConfig",
        "HumanTaskConfig.UiConfig.HumanTaskUiArn",
    ),
    "CreatePipeline": ("PipelineVersionAliases",),
    "UpdatePipeline": ("PipelineVersionAliases",),
    "DescribePipeline": ("PipelineVersionId", "PipelineVersionAlias"),
    "StartPipelineExecution": (
        *("SelectiveExecutionConfig", "PipelineVersionId", "PipelineVersionAlias", "MlflowExperimentName"),
    ),
    "ListPipelineExecutions": ("PipelineVersionAlias",),
    "CreateUserProfile": ("SingleSignOnUserIdentifier", "SingleSignOnUserValue"),
    "UpdateEndpoint": ("RetainDeploymentConfig",),
    "CreateMlflowApp": ("AccountDefaultStatus", "DefaultDomainIdList"),
    "UpdateMlflowApp": ("AccountDefaultStatus", "DefaultDomainIdList"),
    "ListMlflowApps": ("AccountDefaultStatus", "DefaultForDomainId"),
}
"""Members that are refused if their value is neither empty nor false."""

UNBUILT_VALUES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "CreateModel": {
        f"{where}.ImageConfig.RepositoryAccessMode": ("Platform",)
        for where in ("PrimaryContainer", "Containers[]")
    },
    "CreateEndpointConfig": {
        "ProductionVariants[].RoutingConfig.RoutingStrategy": ("LEAST_OUTSTANDING_REQUESTS", "RANDOM")
    },
    "CreateTrainingJob": {
        "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAccessMode": ("Platform",)
    },
    "CreateProcessingJob": {"ProcessingInputs[].S3Input.S3InputMode": ("File",)},
    "CreateTransformJob": {
        "TransformInput.DataSource.S3DataSource.S3DataType": (
            *("ManifestFile", "S3Prefix"),
            "AugmentedManifestFile",  # refused by `transform/validation.py`, with AWS's message
        ),
        "TransformInput.SplitType": ("None", "Line"),
        "DataProcessing.InputFilter": ("$",),
        "DataProcessing.OutputFilter": ("$",),
        "DataProcessing.JoinSource": ("None",),
    },
    "CreateDomain": {"AuthMode": ("IAM",)},
    "CreateMlflowApp": {"ModelRegistrationMode": ("AutoModelRegistrationDisabled",)},
    "UpdateMlflowApp": {"ModelRegistrationMode": ("AutoModelRegistrationDisabled",)},
    "ListModelPackageGroups": {"CrossAccountFilterOption": ("SameAccount",)},
}
"""Members with the values that the local cloud supports. Other values are refused."""

_RECORDED = "the registry stores the value and returns it, as AWS does"
_HERE = "containers use this machine's drivers and network"
_SHARED = "accepts the licence of a gated model; the local cloud hosts none"
_PROFILE = "profiling would measure this machine, not the instance type"
_REFUSED_ABOVE = "has an effect only with another member, which is refused"
_PACKAGE_CONTAINER = dict.fromkeys(
    (
        *("ContainerHostname", "ImageDigest", "ProductId", "ModelInput", "Framework", "FrameworkVersion"),
        *("NearestModelName", "AdditionalModelDataSources", "AdditionalS3DataSource", "ModelDataETag"),
        *("IsCheckpoint", "BaseModel", "ModelDataSource.S3DataSource.ModelAccessConfig"),
        *(f"ModelDataSource.S3DataSource.{each}" for each in _MODEL_SOURCE),
    ),
    _RECORDED,
)
_LIFE_CYCLE = {f"ModelLifeCycle.{name}": _RECORDED for name in ("Stage", "StageStatus", "StageDescription")}
_CARD = {f"ModelCard.{name}": _RECORDED for name in ("ModelCardContent", "ModelCardStatus")}
_MODEL_CONTAINER = {
    "ContainerHostname": "a name for AWS's log streams; local log streams have the variant's name",
    "ImageConfig": "Platform is the default; Vpc, for private registries, is refused",
    "ModelDataSource.S3DataSource.ModelAccessConfig": _SHARED,
}
_DEPLOYMENT = {
    f"DeploymentConfig.BlueGreenUpdatePolicy.{name}": "all traffic shifts at once, without waits or steps"
    for name in (
        *("TerminationWaitInSeconds", "MaximumExecutionTimeoutInSeconds"),
        *(
            f"TrafficRoutingConfiguration.{each}"
            for each in ("WaitIntervalInSeconds", "CanarySize", "LinearStepSize")
        ),
    )
}
_METADATA_SERVICE = {
    "InstanceMetadataServiceConfiguration.MinimumInstanceMetadataServiceVersion": "a notebook instance is "
    "only a record in the local cloud: it has no metadata service"
}
_MAINTENANCE = {"WeeklyMaintenanceWindowStart": "the value is stored; the local cloud has no maintenance"}
_TOKEN = {"ClientRequestToken": "a repeated request finds nothing left to do"}
_NO_APP = "the value is stored; the local cloud runs no Studio app that would use it"
_LAB = tuple(
    f"JupyterLabAppSettings.{each}"
    for each in (
        *("DefaultResourceSpec", "CustomImages", "LifecycleConfigArns", "CodeRepositories", "EmrSettings"),
        *("BuiltInLifecycleConfigArn", "AppLifecycleManagement.IdleSettings.LifecycleManagement"),
    )
)
_OTHER_APPS = ("JupyterServerAppSettings", "KernelGatewayAppSettings")
_SPACE_DEFAULTS = (*_OTHER_APPS, *_LAB, "CustomPosixUserConfig", "CustomFileSystemConfigs")
_USER_SETTINGS = (
    *_SPACE_DEFAULTS,
    *("SharingSettings", "TensorBoardAppSettings", "RStudioServerProAppSettings", "RSessionAppSettings"),
    *("CanvasAppSettings", "CodeEditorAppSettings", "DefaultLandingUri", "StudioWebPortal"),
    *("StudioWebPortalSettings", "AutoMountHomeEFS"),
)
_DOMAIN_SETTINGS = (
    *("ExecutionRoleIdentityConfig", "TrustedIdentityPropagationSettings", "DockerSettings"),
    *("AmazonQSettings", "UnifiedStudioSettings"),
)
_SPACE_SETTINGS = (
    *_OTHER_APPS,
    *("CodeEditorAppSettings", "AppType", "SpaceManagedResources", "CustomFileSystems", "RemoteAccess"),
    *("JupyterLabAppSettings.DefaultResourceSpec", "JupyterLabAppSettings.CodeRepositories"),
    "SpaceStorageSettings.EbsStorageSettings",
)


def _no_app(**settings: tuple[str, ...]) -> dict[str, str]:
    """Return the paths of the given members, each with the reason `_NO_APP`.

    :param settings: names of members by the parameter that contains them
    """
    return {f"{where}.{name}": _NO_APP for where, names in settings.items() for name in names}


NO_EFFECT: Mapping[str, Mapping[str, str]] = {
    "CreateEndpoint": _DEPLOYMENT,
    "UpdateEndpoint": _DEPLOYMENT,
    "CreateModel": {
        **{
            f"{where}.{name}": reason
            for where in ("PrimaryContainer", "Containers[]")
            for name, reason in _MODEL_CONTAINER.items()
        },
        "VpcConfig.Subnets": _HERE,
    },
    "CreateEndpointConfig": {
        "ProductionVariants[].VariantInstanceProvisionTimeoutInSeconds": _REFUSED_ABOVE,
        "ProductionVariants[].ModelDataDownloadTimeoutInSeconds": "copying on this machine needs no timeout",
        "ProductionVariants[].InferenceAmiVersion": _HERE,
        "ProductionVariants[].RoutingConfig": "requests go to the least busy one; prefix-aware is refused",
        "DataCaptureConfig.CaptureOptions": _REFUSED_ABOVE,
        "DataCaptureConfig.CaptureContentTypeHeader": _REFUSED_ABOVE,
        "DataCaptureConfig.DestinationS3Uri": _REFUSED_ABOVE,
        "DataCaptureConfig.InitialSamplingPercentage": _REFUSED_ABOVE,
        "VpcConfig.Subnets": _HERE,
    },
    "CreateTrainingJob": {
        "AlgorithmSpecification.TrainingImageConfig": "Platform is the default; Vpc is refused",
        "InputDataConfig[].DataSource.S3DataSource.ModelAccessConfig": _SHARED,
        "ResourceConfig.SelectedInstanceType": _REFUSED_ABOVE,
        "ResourceConfig.SelectedInstanceCount": _REFUSED_ABOVE,
        "VpcConfig.Subnets": _HERE,
        "StoppingCondition.MaxPendingTimeInSeconds": _REFUSED_ABOVE,
        "DebugHookConfig.LocalPath": "folder of saved tensors; a hook without collections saves none",
        "DebugHookConfig.S3OutputPath": "prefix of saved tensors; a hook without collections saves none",
        "ProfilerConfig": _PROFILE,
    },
    "CreateHyperParameterTuningJob": {
        f"TrainingJobDefinition.{name}": reason
        for name, reason in {
            "DefinitionName": "distinguishes several definitions; there is only one",
            "InputDataConfig[].DataSource.S3DataSource.ModelAccessConfig": _SHARED,
            "ResourceConfig.SelectedInstanceType": _REFUSED_ABOVE,
            "ResourceConfig.SelectedInstanceCount": _REFUSED_ABOVE,
            "VpcConfig.Subnets": _HERE,
            "StoppingCondition.MaxPendingTimeInSeconds": _REFUSED_ABOVE,
        }.items()
    },
    "CreateProcessingJob": {
        "NetworkConfig.VpcConfig.Subnets": _HERE,
        "NetworkConfig.EnableInterContainerTrafficEncryption": "the hosts of a job run on one machine",
    },
    "CreateLabelingJob": {
        "InputConfig.DataAttributes": "concerns the public workforce, which is refused",
        **dict.fromkeys(
            (f"HumanTaskConfig.{name}" for name in ("TaskTitle", "TaskDescription", "TaskKeywords")),
            "text for labelers; simulated labelers read nothing",
        ),
    },
    "CreateModelPackage": {
        **{
            f"{where}.{name}": reason
            for where in (
                "InferenceSpecification.Containers[]",
                "AdditionalInferenceSpecifications[].Containers[]",
            )
            for name, reason in _PACKAGE_CONTAINER.items()
        },
        **dict.fromkeys(
            ("MetadataProperties", "ModelMetrics", "Domain", "Task", "SamplePayloadUrl"), _RECORDED
        ),
        **dict.fromkeys(("DriftCheckBaselines", "SkipModelValidation", "SecurityConfig"), _RECORDED),
        **_CARD,
        **_LIFE_CYCLE,
    },
    "UpdateModelPackage": {
        **{
            f"{where}.{name}": reason
            for where in (
                "InferenceSpecification.Containers[]",
                "AdditionalInferenceSpecificationsToAdd[].Containers[]",
            )
            for name, reason in _PACKAGE_CONTAINER.items()
        },
        **_CARD,
        **_LIFE_CYCLE,
    },
    "DescribeModelPackage": {"IncludedData": "the response always has the whole record, which is small"},
    "CreateDomain": _no_app(
        DefaultUserSettings=_USER_SETTINGS,
        DefaultSpaceSettings=_SPACE_DEFAULTS,
        DomainSettings=(*_DOMAIN_SETTINGS, "RStudioServerProDomainSettings"),
    ),
    "UpdateDomain": _no_app(
        DefaultUserSettings=_USER_SETTINGS,
        DefaultSpaceSettings=_SPACE_DEFAULTS,
        DomainSettingsForUpdate=(*_DOMAIN_SETTINGS, "RStudioServerProDomainSettingsForUpdate"),
    ),
    "DeleteDomain": {"RetentionPolicy": "there is no file system to keep or delete"},
    "CreateUserProfile": _no_app(UserSettings=_USER_SETTINGS),
    "UpdateUserProfile": _no_app(UserSettings=_USER_SETTINGS),
    "CreateSpace": _no_app(SpaceSettings=_SPACE_SETTINGS, SpaceSharingSettings=("SharingType",)),
    "UpdateSpace": _no_app(SpaceSettings=_SPACE_SETTINGS),
    "DeletePipeline": _TOKEN,
    "StopPipelineExecution": _TOKEN,
    "CreateMlflowApp": _MAINTENANCE,
    "UpdateMlflowApp": _MAINTENANCE,
    "CreateNotebookInstance": _METADATA_SERVICE,
    "UpdateNotebookInstance": _METADATA_SERVICE,
}
"""Members that are accepted without effect, with the reason."""


def unbuilt(operation: str, params: Mapping[str, Any]) -> str | None:
    """Return the path of the first unsupported member of a request, or None.

    If the member is supported but its value is not, the value follows the path."""
    served = UNBUILT_VALUES.get(operation, {})
    for path in UNBUILT.get(operation, ()):
        if any(at(params, path.split("."))):
            return path
    for path, values in served.items():
        other = next((each for each in at(params, path.split(".")) if each not in values), None)
        if other is not None:
            return f"{path} {other}"
    return None


def at(value: Any, path: list[str]) -> Iterator[Any]:
    """Yield the values at a path of a request."""
    if not path:
        yield value
        return
    name, lists, _ = path[0].partition("[]")
    found = value.get(name)
    if found is not None:
        for each in found if lists else [found]:
            yield from at(each, path[1:])
