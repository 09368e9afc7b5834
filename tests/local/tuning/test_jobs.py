"""Tuning jobs as a caller of SageMaker sees them: real training jobs, and their objective."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.jobs import client, listen
from tests.support.tuning_jobs import METRIC, SCRIPT, X, jobs_of, tuned, tuning
from tests.support.waiting import until


def values(jobs: list[dict[str, Any]]) -> list[float]:
    return [job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for job in jobs]


def test_tuning_job_finds_its_best_training_job(cloud: LocalCloud, sagemaker: Any) -> None:
    # given a listener on the event bus
    heard = listen(cloud, "HyperParameter Tuning")
    asked: dict[str, Any] = tuning() | {"Tags": [{"Key": "team", "Value": "a"}]}
    name = asked["HyperParameterTuningJobName"]
    # when the hyperparameter x is tuned
    found = tuned(sagemaker, asked)
    # then all training jobs have ended, each with a different x
    assert found["HyperParameterTuningJobStatus"] == "Completed", found
    jobs = jobs_of(sagemaker, name)
    assert [job["TrainingJobName"].rpartition("-")[0] for job in jobs] == [
        f"{name}-{number:03d}" for number in (1, 2, 3, 4)
    ]
    assert len({job["TunedHyperParameters"]["x"] for job in jobs}) == 4
    for job, value in zip(jobs, values(jobs), strict=True):
        x = float(job["TunedHyperParameters"]["x"])
        assert 0 <= x <= 1
        assert value == pytest.approx(1 - (x - 0.7) ** 2, abs=1e-6)
    # and the best training job is the one with the largest objective value
    best = found["BestTrainingJob"]
    assert values([best]) == [max(values(jobs))]
    assert values(jobs_of(sagemaker, name, SortBy="FinalObjectiveMetricValue", SortOrder="Descending")) == (
        sorted(values(jobs), reverse=True)
    )
    assert found["TrainingJobStatusCounters"]["Completed"] == 4
    assert found["ObjectiveStatusCounters"] == {"Succeeded": 4, "Pending": 0, "Failed": 0}
    # and each training job has the tuning job's ARN and tags
    described = sagemaker.describe_training_job(TrainingJobName=best["TrainingJobName"])
    assert described["TuningJobArn"] == found["HyperParameterTuningJobArn"]
    assert described["HyperParameters"] == {
        "script": SCRIPT,
        "x": best["TunedHyperParameters"]["x"],
        "_tuning_objective_metric": METRIC,
    }
    tags = sagemaker.list_tags(ResourceArn=described["TrainingJobArn"])["Tags"]
    assert {"Key": "team", "Value": "a"} in tags
    # and the event bus got an event of the tuning job's end
    kinds = until(
        lambda: [event["detail"]["HyperParameterTuningJobStatus"] for event in heard()][1:],
        "the event of the end of the tuning job",
    )
    assert kinds == ["Completed"]
    # and the tuning job is listed
    (listed,) = sagemaker.list_hyper_parameter_tuning_jobs(NameContains=name)[
        "HyperParameterTuningJobSummaries"
    ]
    assert (listed["Strategy"], listed["ResourceLimits"]["MaxNumberOfTrainingJobs"]) == ("Random", 4)


def test_same_seed_draws_the_same_values(sagemaker: Any) -> None:
    first, second = (tuned(sagemaker, tuning()) for _ in range(2))
    drawn = [
        [job["TunedHyperParameters"] for job in jobs_of(sagemaker, each["HyperParameterTuningJobName"])]
        for each in (first, second)
    ]
    assert drawn[0] == drawn[1]


def test_grid_tries_each_combination_once(sagemaker: Any) -> None:
    ranges = {
        "CategoricalParameterRanges": [
            {"Name": "x", "Values": ["0.1", "0.7"]},
            {"Name": "colour", "Values": ["red", "blue"]},
        ]
    }
    asked = tuning(Strategy="Grid", ParameterRanges=ranges, ResourceLimits={"MaxParallelTrainingJobs": 4})
    found = tuned(sagemaker, asked)
    jobs = jobs_of(sagemaker, asked["HyperParameterTuningJobName"])
    tried = sorted(tuple(sorted(job["TunedHyperParameters"].items())) for job in jobs)
    assert tried == [(("colour", colour), ("x", x)) for colour in ("blue", "red") for x in ("0.1", "0.7")]
    assert found["BestTrainingJob"]["TunedHyperParameters"]["x"] == "0.7"


def test_bayesian_search_comes_closer_than_its_first_draws(sagemaker: Any) -> None:
    limits = {"MaxNumberOfTrainingJobs": 12, "MaxParallelTrainingJobs": 1}
    asked = tuning(Strategy="Bayesian", ResourceLimits=limits)
    found = tuned(sagemaker, asked)
    assert found["HyperParameterTuningJobStatus"] == "Completed", found
    jobs = jobs_of(sagemaker, asked["HyperParameterTuningJobName"])
    away = [abs(float(job["TunedHyperParameters"]["x"]) - 0.7) for job in jobs]
    assert sum(away[5:]) / 7 < sum(away[:5]) / 5
    assert min(away) < 0.1


def test_job_that_is_worse_than_the_median_is_stopped_early(sagemaker: Any) -> None:
    # given a tuning job that tries a good and then a bad value of the hyperparameter, with slow epochs for
    # the bad value
    script = """
given = json.loads((config / "hyperparameters.json").read_text())
for epoch in range(40):
    print(f"validation:accuracy={given['x']}", flush=True)
    time.sleep(0.1 if given["x"] == "0.9" else 0.5)
"""
    ranges = {"CategoricalParameterRanges": [{"Name": "x", "Values": ["0.9", "0.1"]}]}
    asked = tuning(
        script,
        Strategy="Grid",
        ParameterRanges=ranges,
        ResourceLimits={"MaxParallelTrainingJobs": 1},
        TrainingJobEarlyStoppingType="Auto",
    )
    # when the tuning job runs
    found = tuned(sagemaker, asked)
    # then the training job with the bad value is stopped, and the counters include both training jobs
    jobs = jobs_of(sagemaker, asked["HyperParameterTuningJobName"])
    assert [job["TrainingJobStatus"] for job in jobs] == ["Completed", "Stopped"]
    assert found["HyperParameterTuningJobStatus"] == "Completed"
    assert found["ObjectiveStatusCounters"]["Succeeded"] == 2
    assert found["BestTrainingJob"]["TunedHyperParameters"] == {"x": "0.9"}


def test_stopped_tuning_job_stops_its_training_jobs(sagemaker: Any) -> None:
    # given a tuning job with running training jobs
    asked = tuning(SCRIPT + "time.sleep(300)")
    name = asked["HyperParameterTuningJobName"]
    sagemaker.create_hyper_parameter_tuning_job(**asked)
    until(lambda: len(jobs_of(sagemaker, name)) == 2, "the start of two training jobs")
    # when the tuning job is stopped, twice
    for _ in range(2):
        sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)

    def stopped() -> bool:
        found = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        return found["HyperParameterTuningJobStatus"] == "Stopped"

    # then the tuning job and its training jobs end, and no other training job starts
    until(stopped, "the end of the tuning job")
    assert [job["TrainingJobStatus"] for job in jobs_of(sagemaker, name)] == ["Stopped"] * 2
    with pytest.raises(ClientError, match="is in status Stopped"):
        sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def test_tuning_job_fails_after_five_failures(sagemaker: Any) -> None:
    limits = {"MaxNumberOfTrainingJobs": 20, "MaxParallelTrainingJobs": 1}
    found = tuned(sagemaker, tuning("sys.exit(1)", ResourceLimits=limits))
    assert found["HyperParameterTuningJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("No training job succeeded after 5 attempts.")
    assert found["TrainingJobStatusCounters"]["NonRetryableError"] == 5
    assert "BestTrainingJob" not in found


def test_target_of_the_objective_ends_the_tuning_job(sagemaker: Any) -> None:
    limits = {"MaxNumberOfTrainingJobs": 50, "MaxParallelTrainingJobs": 1}
    criteria = {"TargetObjectiveMetricValue": 0.5}
    found = tuned(sagemaker, tuning(ResourceLimits=limits, TuningJobCompletionCriteria=criteria))
    assert found["HyperParameterTuningJobStatus"] == "Completed"
    assert found["TrainingJobStatusCounters"]["Completed"] < 10


def test_throttled_training_job_is_started_again(cloud: LocalCloud, sagemaker: Any) -> None:
    cloud.configure(fault_throttle_training_jobs=2)
    found = tuned(sagemaker, tuning())
    assert found["TrainingJobStatusCounters"]["Completed"] == 4


def test_restarted_cloud_fails_its_tuning_job(running: LocalCloud) -> None:
    # given a running tuning job
    asked = tuning(SCRIPT + "time.sleep(300)")
    sagemaker = client(running, "sagemaker")
    sagemaker.create_hyper_parameter_tuning_job(**asked)
    name = asked["HyperParameterTuningJobName"]
    until(lambda: jobs_of(sagemaker, name), "the start of a training job")
    # when the cloud crashes and starts again
    running.kill()
    running.start()
    # then the tuning job has failed with the reason, and so have its training jobs
    sagemaker = client(running, "sagemaker")
    found = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    assert (found["HyperParameterTuningJobStatus"], "local cloud ended" in found["FailureReason"]) == (
        "Failed",
        True,
    )
    assert {job["TrainingJobStatus"] for job in jobs_of(sagemaker, name)} == {"Failed"}


def test_integer_and_logarithmic_values_stay_in_their_ranges(sagemaker: Any) -> None:
    ranges = {
        "ContinuousParameterRanges": [X],
        "IntegerParameterRanges": [{"Name": "n", "MinValue": "1", "MaxValue": "1000"}],
    }
    asked = tuning(ParameterRanges=ranges)
    tuned(sagemaker, asked)
    drawn = [
        int(job["TunedHyperParameters"]["n"])
        for job in jobs_of(sagemaker, asked["HyperParameterTuningJobName"])
    ]
    assert all(1 <= value <= 1000 for value in drawn)
