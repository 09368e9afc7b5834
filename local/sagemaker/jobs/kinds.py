"""The kinds of jobs, and the names that SageMaker and Step Functions derive from each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JobKind:
    """One kind of job, such as training jobs."""

    noun: str
    """Prefix of API names: `Training` in TrainingJobName, CreateTrainingJob, TrainingStartTime."""
    missing: str
    """Error message for a job that does not exist; `{name}` is its name."""
    taken: str
    """Error message for a name that is in use; `{arn}` and `{name}` are the existing job's."""
    event: tuple[str, ...]
    """Members of the job's description that its state-change event has, as shown in
    https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html"""

    @property
    def name(self) -> str:
        return f"{self.noun}JobName"

    @property
    def arn(self) -> str:
        return f"{self.noun}JobArn"

    @property
    def status(self) -> str:
        return f"{self.noun}JobStatus"

    @property
    def started(self) -> str:
        return f"{self.noun}StartTime"

    @property
    def ended(self) -> str:
        return f"{self.noun}EndTime"

    @property
    def folder(self) -> str:
        """Name of the folder with the instances of these jobs, and prefix of the settings for these jobs."""
        return self.noun.lower()

    @property
    def records(self) -> str:
        """Kind of these jobs' records in the store, and resource type in their ARNs."""
        return f"{self.folder}-job"

    @property
    def words(self) -> str:
        return f"{self.folder} job"

    @property
    def log_group(self) -> str:
        return f"/aws/sagemaker/{self.noun}Jobs"

    @property
    def detail_type(self) -> str:
        """Detail type of these jobs' state-change events on the event bus."""
        return f"SageMaker {self.noun} Job State Change"

    @property
    def rule(self) -> str:
        """Managed rule through which Step Functions receives these jobs' state-change events."""
        return f"StepFunctionsGetEventsForSageMaker{self.noun}JobsRule"

    @property
    def abandoned(self) -> str:
        """FailureReason of a job that ran when the local cloud ended."""
        return f"InternalServerError: The local cloud ended while the {self.words} ran."


class TuningKind(JobKind):
    """Tuning jobs, for which the API, events and rules have different spellings."""

    @property
    def folder(self) -> str:
        return "tuning"

    @property
    def records(self) -> str:
        return "hyper-parameter-tuning-job"

    @property
    def words(self) -> str:
        return "hyperparameter tuning job"

    @property
    def detail_type(self) -> str:
        return "SageMaker HyperParameter Tuning Job State Change"

    @property
    def rule(self) -> str:
        return "StepFunctionsGetEventsForSageMakerTuningJobsRule"


class LabelingKind(JobKind):
    """Labeling jobs, whose events have the name of Ground Truth.

    AWS documents no managed rule for labeling jobs. Here the rule is named like the rules of other kinds."""

    @property
    def detail_type(self) -> str:
        return "SageMaker Ground Truth Labeling Job State Change"


_TAKEN = "Job name must be unique within an AWS account and region, and a job with this name already exists"
_MISSING = "Could not find requested job with name: {name}"

TRAINING = JobKind(
    "Training",
    "Requested resource not found.",
    "Training job names must be unique within an AWS account and region, and a training job with this name "
    "already exists ({arn})",
    (
        "TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "SecondaryStatus", "FailureReason",
        "HyperParameters", "AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig",
        "ResourceConfig", "VpcConfig", "StoppingCondition", "ModelArtifacts", "FinalMetricDataList",
        "SecondaryStatusTransitions", "CreationTime", "TrainingStartTime", "TrainingEndTime",
        "LastModifiedTime",
    ),
)  # fmt: skip
PROCESSING = JobKind(
    "Processing",
    _MISSING,
    f"{_TAKEN} ({{arn}})",
    (
        "ProcessingJobName", "ProcessingJobArn", "ProcessingJobStatus", "FailureReason", "ExitMessage",
        "ProcessingInputs", "ProcessingOutputConfig", "ProcessingResources", "StoppingCondition",
        "AppSpecification", "Environment", "NetworkConfig", "RoleArn", "CreationTime", "ProcessingStartTime",
        "ProcessingEndTime", "LastModifiedTime",
    ),
)  # fmt: skip
TRANSFORM = JobKind(
    "Transform",
    _MISSING,
    f"{_TAKEN} ({{arn}})",
    (
        "TransformJobName", "TransformJobArn", "TransformJobStatus", "FailureReason", "ModelName",
        "MaxConcurrentTransforms", "ModelClientConfig", "MaxPayloadInMB", "BatchStrategy", "Environment",
        "TransformInput", "TransformOutput", "TransformResources", "DataProcessing", "CreationTime",
        "TransformStartTime", "TransformEndTime",
    ),
)  # fmt: skip
TUNING = TuningKind(
    "HyperParameterTuning",
    "Amazon SageMaker can't find a tuning job with the name {name}",
    "A hyperparameter tuning job with the name, {name}, already exists. Choose a different name.",
    (
        "HyperParameterTuningJobName", "HyperParameterTuningJobArn", "HyperParameterTuningJobConfig",
        "TrainingJobDefinition", "HyperParameterTuningJobStatus", "CreationTime", "LastModifiedTime",
        "TrainingJobStatusCounters", "ObjectiveStatusCounters",
    ),
)  # fmt: skip
LABELING = LabelingKind(
    "Labeling",
    _MISSING,
    f"{_TAKEN} ({{arn}})",
    # https://docs.aws.amazon.com/sagemaker/latest/dg/sms-monitor-cloud-watch.html
    ("LabelingJobStatus",),
)
KINDS = {kind.noun: kind for kind in (TRAINING, PROCESSING, TRANSFORM, TUNING, LABELING)}
