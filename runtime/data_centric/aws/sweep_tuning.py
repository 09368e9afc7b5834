"""SageMaker: the training jobs of a sweep's tuning job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_centric.core.comparison import Outcome

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

LIST = "list_training_jobs_for_hyper_parameter_tuning_job"


class TuningJobs:
    def __init__(self, sagemaker: SageMakerClient) -> None:
        self.sagemaker = sagemaker

    def jobs(self, name: str) -> list[tuple[float, Outcome]]:
        """Return each training job's fraction of the examples and its outcome, sorted by job name."""
        pages = self.sagemaker.get_paginator(LIST).paginate(
            HyperParameterTuningJobName=name, SortBy="Name", SortOrder="Ascending"
        )
        found = [each for page in pages for each in page["TrainingJobSummaries"]]
        return [
            (float(each["TunedHyperParameters"]["fraction"]), self._outcome(number, each["TrainingJobName"]))
            for number, each in enumerate(found, 1)
        ]

    def _outcome(self, number: int, name: str) -> Outcome:
        job = self.sagemaker.describe_training_job(TrainingJobName=name)
        status = job["TrainingJobStatus"]
        stopped = "stopped early" if status == "Stopped" else ""
        return Outcome(
            f"search-{number:03d}",
            name,
            status,
            job.get("FailureReason") or stopped,
            job.get("BillableTimeInSeconds", 0),
        )
