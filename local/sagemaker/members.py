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
            "AugmentedManifestFile",  # refused as AWS does
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

_RECORDED = "a record: the registry keeps it and answers with it, as AWS does"
_HERE = "what is local is this machine's: its driver, its clock, its network"
_SHARED = "a licence that is accepted elsewhere; the local cloud hosts no gated model"
_PROFILE = "what would be sampled is this machine's, which says nothing of an instance"
_REFUSED_ABOVE = "belongs to a member that is refused"
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
    "ContainerHostname": "a name for logs of AWS's own; the local ones have the variant's",
    "ImageConfig": "how AWS reaches a private registry (Platform); Vpc is refused",
    "ModelDataSource.S3DataSource.ModelAccessConfig": _SHARED,
}
_DEPLOYMENT = {
    f"DeploymentConfig.BlueGreenUpdatePolicy.{name}": "all traffic moves at once: nothing waits or is undone"
    for name in (
        *("TerminationWaitInSeconds", "MaximumExecutionTimeoutInSeconds"),
        *(
            f"TrafficRoutingConfiguration.{each}"
            for each in ("WaitIntervalInSeconds", "CanarySize", "LinearStepSize")
        ),
    )
}
_METADATA_SERVICE = {
    "InstanceMetadataServiceConfiguration.MinimumInstanceMetadataServiceVersion": "a notebook instance is a "
    "record here: there is no metadata service"
}
_MAINTENANCE = {"WeeklyMaintenanceWindowStart": "a record: nothing here is maintained by AWS"}
_TOKEN = {"ClientRequestToken": "the same request once more finds nothing left to do"}
_NO_APP = "a record: no Studio app runs here that would be set up by it"
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
        "ProductionVariants[].ModelDataDownloadTimeoutInSeconds": "a copy on this machine takes no such time",
        "ProductionVariants[].InferenceAmiVersion": _HERE,
        "ProductionVariants[].RoutingConfig": "requests go to the least busy; prefix-aware is refused",
        "DataCaptureConfig.CaptureOptions": _REFUSED_ABOVE,
        "DataCaptureConfig.CaptureContentTypeHeader": _REFUSED_ABOVE,
        "DataCaptureConfig.DestinationS3Uri": _REFUSED_ABOVE,
        "DataCaptureConfig.InitialSamplingPercentage": _REFUSED_ABOVE,
        "VpcConfig.Subnets": _HERE,
    },
    "CreateTrainingJob": {
        "AlgorithmSpecification.TrainingImageConfig": "how AWS reaches a private registry (Platform)",
        "InputDataConfig[].DataSource.S3DataSource.ModelAccessConfig": _SHARED,
        "ResourceConfig.SelectedInstanceType": _REFUSED_ABOVE,
        "ResourceConfig.SelectedInstanceCount": _REFUSED_ABOVE,
        "VpcConfig.Subnets": _HERE,
        "StoppingCondition.MaxPendingTimeInSeconds": _REFUSED_ABOVE,
        "DebugHookConfig.LocalPath": "where tensors are written; a hook without collections writes none",
        "DebugHookConfig.S3OutputPath": "where tensors are kept; a hook without collections writes none",
        "ProfilerConfig": _PROFILE,
    },
    "CreateHyperParameterTuningJob": {
        f"TrainingJobDefinition.{name}": reason
        for name, reason in {
            "DefinitionName": "a name among several definitions; there is one",
            "InputDataConfig[].DataSource.S3DataSource.ModelAccessConfig": _SHARED,
            "ResourceConfig.SelectedInstanceType": _REFUSED_ABOVE,
            "ResourceConfig.SelectedInstanceCount": _REFUSED_ABOVE,
            "VpcConfig.Subnets": _HERE,
            "StoppingCondition.MaxPendingTimeInSeconds": _REFUSED_ABOVE,
        }.items()
    },
    "CreateProcessingJob": {
        "NetworkConfig.VpcConfig.Subnets": _HERE,
        "NetworkConfig.EnableInterContainerTrafficEncryption": "the hosts of a job are on one machine",
    },
    "CreateLabelingJob": {
        "InputConfig.DataAttributes": "what the public workforce may see, which is refused",
        **dict.fromkeys(
            (f"HumanTaskConfig.{name}" for name in ("TaskTitle", "TaskDescription", "TaskKeywords")),
            "what labelers read; simulated ones read nothing",
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
    "DescribeModelPackage": {"IncludedData": "the whole record is small enough to answer"},
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
    "DeleteDomain": {"RetentionPolicy": "there is no file system that would be kept or deleted"},
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

    Where only the value is unsupported, it follows the path."""
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
