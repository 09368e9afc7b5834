"""Refusals of CreateHyperParameterTuningJob: invalid values, missing permissions, unsupported features."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.jobs import caller, role
from tests.support.tuning_jobs import X, tuned, tuning


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return a request with `value` at the dotted path `path`; the value None deletes the member."""
    asked = copy.deepcopy(tuning())
    *parents, last = path.split(".")
    holder = asked
    for each in parents:
        holder = holder.setdefault(each, {})
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    return asked


CONFIG, DEFINITION = "HyperParameterTuningJobConfig", "TrainingJobDefinition"


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (f"{CONFIG}.Strategy", "Hyperband", "with Strategy Hyperband is not implemented"),
        (f"{CONFIG}.Strategy", "Grid", "Grid takes categorical ranges only, got x"),
        (f"{CONFIG}.ParameterRanges", {}, "ParameterRanges needs at least one range"),
        (f"{CONFIG}.ParameterRanges.ContinuousParameterRanges", [X, X], "one range each, got several of x"),
        (f"{CONFIG}.ParameterRanges.AutoParameters", [{"Name": "y", "ValueHint": "1"}], "AutoParameters"),
        (f"{CONFIG}.HyperParameterTuningJobObjective.MetricName", "loss", "must be one of MetricDefinitions"),
        (f"{CONFIG}.HyperParameterTuningJobObjective", None, "HyperParameterTuningJobObjective is required"),
        (f"{CONFIG}.ResourceLimits.MaxNumberOfTrainingJobs", 751, "must be at most 750, got 751"),
        (f"{CONFIG}.ResourceLimits.MaxNumberOfTrainingJobs", None, "MaxNumberOfTrainingJobs is required"),
        (f"{CONFIG}.ResourceLimits.MaxParallelTrainingJobs", 5, "must be at most 4, got 5"),
        (f"{DEFINITION}.StaticHyperParameters.x", "1", "either static or have a range, got both: x"),
        (f"{DEFINITION}.CheckpointConfig", {"S3Uri": "s3://b/c"}, "with CheckpointConfig is not implemented"),
        (f"{DEFINITION}.RetryStrategy", {"MaximumRetryAttempts": 1}, "with RetryStrategy is not implemented"),
        ("Autotune", {"Mode": "Enabled"}, "with Autotune is not implemented"),
        (DEFINITION, None, "TrainingJobDefinition is required"),
        (f"{DEFINITION}.AlgorithmSpecification.TrainingImage", "none:1", "Cannot pull the training image"),
        (f"{DEFINITION}.ResourceConfig.InstanceCount", 0, "needs at least one instance"),
    ],
)
def test_invalid_tuning_job_is_refused(path: str, value: Any, sentence: str, sagemaker: Any) -> None:
    with pytest.raises(ClientError, match=sentence):
        sagemaker.create_hyper_parameter_tuning_job(**changed(path, value))


def test_existing_or_unknown_name_is_refused(sagemaker: Any) -> None:
    asked = tuning()
    tuned(sagemaker, asked)
    with pytest.raises(ClientError, match=r"\(ResourceInUse\).*already exists. Choose a different name"):
        sagemaker.create_hyper_parameter_tuning_job(**asked)
    with pytest.raises(ClientError, match=r"\(ResourceNotFound\).*can't find a tuning job"):
        sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="nobody")


def test_caller_needs_to_pass_the_role_and_nothing_more(cloud: LocalCloud) -> None:
    # given a caller who may create tuning jobs, and a caller who may also pass the role of the jobs
    own = role(cloud)
    create = {"Action": "sagemaker:*HyperParameterTuningJob", "Resource": "*"}
    passing = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    without = caller(cloud, create)
    allowed = caller(cloud, create, {"Action": "iam:PassRole", "Resource": own, "Condition": passing})
    cloud.enforce_iam(True)
    # when the caller without the grant on the role creates a tuning job, then the call is refused
    with pytest.raises(ClientError, match="not authorized to perform: iam:PassRole"):
        without.create_hyper_parameter_tuning_job(**changed(f"{DEFINITION}.RoleArn", own))
    # when the caller who may pass the role creates a tuning job, then its training jobs run, although the
    # caller may not create training jobs
    asked = changed(f"{DEFINITION}.RoleArn", own)
    found = tuned(allowed, asked)
    assert found["TrainingJobStatusCounters"]["Completed"] == 4, found
    with pytest.raises(ClientError, match="not authorized to perform: sagemaker:DescribeTrainingJob"):
        allowed.describe_training_job(TrainingJobName=found["BestTrainingJob"]["TrainingJobName"])
