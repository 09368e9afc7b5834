"""Processing steps of pipelines: their outputs, and the values in their property files."""

from __future__ import annotations

import pytest

from local.cloud import LocalCloud
from tests.support.deployments import ACCOUNT, REGION
from tests.support.pipeline_runs import PipelineRuns
from tests.support.pipelines import compare, condition, defined, fail, get, metric
from tests.support.training_jobs import BUCKET, IMAGE
from tests.support.waiting import until

EVALUATE = """
import json, pathlib
pathlib.Path("/opt/ml/processing/out/metrics.json").write_text(json.dumps({"regression": {"rmse": 0.25}}))
"""


def evaluate(runs: PipelineRuns) -> dict[str, object]:
    """A step that writes a report to the output `report`, with the property file `Metrics`."""
    target = {
        "S3Uri": f"s3://{BUCKET}/report",
        "LocalPath": "/opt/ml/processing/out",
        "S3UploadMode": "EndOfJob",
    }
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    file = {"PropertyFileName": "Metrics", "OutputName": "report", "FilePath": "metrics.json"}
    return {
        "Name": "Process",
        "Type": "Processing",
        "Arguments": {
            "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["python", "-c", EVALUATE]},
            "RoleArn": runs.job_role,
            "ProcessingResources": {"ClusterConfig": cluster},
            "ProcessingOutputConfig": {"Outputs": [{"OutputName": "report", "S3Output": target}]},
        },
        "PropertyFiles": [file],
    }


@pytest.mark.parametrize(("most", "status"), [("0.3", "Succeeded"), ("0.2", "Failed")])
def test_property_file_decides_a_condition(
    running: LocalCloud, runs: PipelineRuns, most: str, status: str
) -> None:
    # given a report, a condition on a value in it, and a job that gets the report's URI
    place = get("Steps.Process.ProcessingOutputConfig.Outputs['report'].S3Output.S3Uri")
    script = "print(json.loads((config / 'hyperparameters.json').read_text())['report'])"
    train = runs.training(script)
    train["Arguments"]["HyperParameters"] |= {"report": place}
    most_allowed = {"Name": "Most", "Type": "Float"}
    good = compare("LessThanOrEqualTo", metric("regression.rmse"), get("Parameters.Most"))
    text = defined(
        evaluate(runs), condition("Good", good, then=[train], otherwise=[fail()]), parameters=[most_allowed]
    )
    of_jobs = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:processing-job/pipelines-*"
    acting = runs.pipeline_role(
        *((f"sagemaker:{verb}ProcessingJob", of_jobs) for verb in ("Create", "Describe")),
        ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/report/*"),
    )
    running.enforce_iam(True)
    # when
    execution = runs.start(text, acting, PipelineParameters=[{"Name": "Most", "Value": most}])
    # then
    assert runs.ended(execution) == status, runs.steps(execution)
    steps = runs.steps(execution)
    assert list(steps) == ["Process", "Good", "Train" if status == "Succeeded" else "Fail"]
    assert ":processing-job/pipelines-" in steps["Process"]["Metadata"]["ProcessingJob"]["Arn"]
    if status == "Succeeded":
        assert runs.job(steps["Train"])["HyperParameters"]["report"] == f"s3://{BUCKET}/report"


def test_stop_stops_the_processing_job(running: LocalCloud, runs: PipelineRuns) -> None:
    # given a running processing job
    step = evaluate(runs)
    arguments = step["Arguments"]
    assert isinstance(arguments, dict)
    arguments["AppSpecification"] |= {"ContainerEntrypoint": ["python", "-c", "import time; time.sleep(600)"]}
    grants = ((f"sagemaker:{verb}ProcessingJob", "*") for verb in ("Create", "Describe", "Stop"))
    execution = runs.start(defined(step), runs.pipeline_role(*grants))
    until(lambda: runs.statuses(execution) == {"Process": "Executing"}, "the start of the job")
    # when
    runs.sagemaker.stop_pipeline_execution(PipelineExecutionArn=execution)
    # then
    assert runs.ended(execution) == "Stopped"
    assert runs.statuses(execution) == {"Process": "Stopped"}
