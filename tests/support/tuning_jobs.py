"""Tuning jobs that use the image of the training jobs' tests."""

from __future__ import annotations

from typing import Any

from tests.support.jobs import ENDED, names
from tests.support.training_jobs import request
from tests.support.waiting import until

METRIC = "validation:accuracy"
SCRIPT = """
given = json.loads((config / "hyperparameters.json").read_text())
x = float(given["x"])
print(f"validation:accuracy={1 - (x - 0.7) ** 2:.6f}", flush=True)
"""
"""A training job whose objective is largest at x = 0.7."""
X = {"Name": "x", "MinValue": "0", "MaxValue": "1", "ScalingType": "Linear"}


def tuning(script: str = SCRIPT, **config: Any) -> dict[str, Any]:
    """Return a request for four jobs, two at a time, with random x. `config` changes the configuration."""
    definition = request(script)
    static = definition.pop("HyperParameters")
    del definition["TrainingJobName"]
    definition["AlgorithmSpecification"]["MetricDefinitions"] = [
        {"Name": METRIC, "Regex": "validation:accuracy=([0-9.eE+-]+)"}
    ]
    return {
        "HyperParameterTuningJobName": next(names),
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": METRIC},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {"ContinuousParameterRanges": [X]},
            "RandomSeed": 7,
        }
        | config,
        "TrainingJobDefinition": definition | {"StaticHyperParameters": static},
    }


def tuned(sagemaker: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Create a tuning job and wait for its end; return its description."""
    name = asked["HyperParameterTuningJobName"]
    sagemaker.create_hyper_parameter_tuning_job(**asked)

    def look() -> dict[str, Any] | None:
        found = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        return found if found["HyperParameterTuningJobStatus"] in ENDED else None

    return until(look, f"the end of {name}", 300)


def jobs_of(sagemaker: Any, name: str, **given: Any) -> list[dict[str, Any]]:
    return sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, MaxResults=100, **given
    )["TrainingJobSummaries"]
