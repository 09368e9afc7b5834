"""Render `definition.json` with the SageMaker Python SDK, as a data scientist would write it.

    cd tests/local/pipelines/rendered
    AWS_DEFAULT_REGION=eu-west-1 ../../../../.groundplan/envs/notebooks/bin/python render.py

Needs the environment `notebooks` (`python -m tooling.envs notebooks`), and no network. The SDK needs a Region
when it is imported.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from sagemaker.core.lambda_helper import Lambda
from sagemaker.core.training.configs import Compute, OutputDataConfig, StoppingCondition
from sagemaker.core.workflow.conditions import (
    ConditionEquals,
    ConditionIn,
    ConditionLessThanOrEqualTo,
    ConditionNot,
    ConditionOr,
)
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join
from sagemaker.core.workflow.parameters import (
    ParameterBoolean,
    ParameterFloat,
    ParameterInteger,
    ParameterString,
)
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.mlops.workflow.callback_step import CallbackOutput, CallbackOutputTypeEnum, CallbackStep
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.lambda_step import LambdaOutput, LambdaOutputTypeEnum, LambdaStep
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.retry import (
    SageMakerJobExceptionTypeEnum,
    SageMakerJobStepRetryPolicy,
    StepExceptionTypeEnum,
    StepRetryPolicy,
)
from sagemaker.mlops.workflow.step_dependency import StepDependency, TriggerCondition
from sagemaker.mlops.workflow.steps import CacheConfig, TrainingStep
from sagemaker.serve import ModelBuilder
from sagemaker.train import ModelTrainer

CONFIG = Path(tempfile.mkdtemp()) / "config.yaml"
CONFIG.write_text("{SchemaVersion: '1.0', SageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}}")
os.environ |= {
    "SAGEMAKER_USER_CONFIG_OVERRIDE": str(CONFIG),
    "SAGEMAKER_VALIDATE_ROLE": "false",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
}

ROLE = "arn:aws:iam::000000000000:role/pipelines-rendered"
IMAGE = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/training-tests:1"
FUNCTION = "arn:aws:lambda:eu-west-1:000000000000:function:pipelines-rendered"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/000000000000/pipelines-rendered"


class OfflineSession(PipelineSession):
    """A session that returns its default bucket without a call to AWS."""

    def default_bucket(self) -> str:
        return "training-tests"


session = OfflineSession()
script = ParameterString("Script")
hosts = ParameterInteger("Hosts", 1)
threshold = ParameterFloat("Threshold", 0.5)
wanted = ParameterBoolean("Wanted", default_value=True)
stage = ParameterString("Stage", "dev", enum_values=["dev", "prod"])

trainer = ModelTrainer(
    training_image=IMAGE,
    role=ROLE,
    sagemaker_session=session,
    base_job_name="train",
    compute=Compute(instance_type="ml.m5.large", instance_count=hosts, volume_size_in_gb=1),
    output_data_config=OutputDataConfig(
        s3_output_path=Join(on="/", values=["s3://training-tests", ExecutionVariables.PIPELINE_EXECUTION_ID])
    ),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=60),
    hyperparameters={"script": script, "hosts": hosts.to_string()},
)
train = TrainingStep(
    name="Train",
    display_name="train a model",
    step_args=trainer.train(),
    cache_config=CacheConfig(enable_caching=True, expire_after="P30d"),
    retry_policies=[
        SageMakerJobStepRetryPolicy(
            failure_reason_types=[SageMakerJobExceptionTypeEnum.CAPACITY_ERROR],
            interval_seconds=1,
            max_attempts=3,
        ),
        StepRetryPolicy([StepExceptionTypeEnum.THROTTLING], expire_after_mins=5),
    ],
)
judge = LambdaStep(
    name="Judge",
    lambda_func=Lambda(function_arn=FUNCTION),
    inputs={"model": train.properties.ModelArtifacts.S3ModelArtifacts, "stage": stage},
    outputs=[
        LambdaOutput("rmse", LambdaOutputTypeEnum.Float),
        LambdaOutput("verdict", LambdaOutputTypeEnum.String),
    ],
)
approve = CallbackStep(
    name="Approve",
    sqs_queue_url=QUEUE,
    inputs={"rmse": judge.properties.Outputs["rmse"], "since": ExecutionVariables.START_DATETIME},
    outputs=[CallbackOutput("by", CallbackOutputTypeEnum.String)],
)
builder = ModelBuilder(
    image_uri=IMAGE,
    role_arn=ROLE,
    sagemaker_session=session,
    s3_model_data_url=train.properties.ModelArtifacts.S3ModelArtifacts,
    model_path=tempfile.mkdtemp(),
)
register = ModelStep(
    name="Register",
    step_args=builder.register(
        model_package_group_name="pipelines-rendered",
        content_types=["text/csv"],
        response_types=["text/csv"],
        inference_instances=["ml.m5.large"],
        transform_instances=["ml.m5.large"],
        approval_status="Approved",
        customer_metadata_properties={"by": approve.properties.Outputs["by"]},
    ),
)
good = ConditionStep(
    name="Good",
    conditions=[
        ConditionLessThanOrEqualTo(left=judge.properties.Outputs["rmse"], right=threshold),
        ConditionOr([ConditionEquals(left=wanted, right=True), ConditionEquals(left=stage, right="prod")]),
        ConditionNot(ConditionIn(value=judge.properties.Outputs["verdict"], in_values=["bad", "worse"])),
    ],
    if_steps=[register],
    else_steps=[
        FailStep(
            name="TooBad",
            error_message=Join(on=" ", values=["rmse", judge.properties.Outputs["rmse"], "above", threshold]),
        )
    ],
    depends_on=[approve],
)
tell = LambdaStep(
    name="Tell",
    lambda_func=Lambda(function_arn=FUNCTION),
    inputs={"failed": train.properties.TrainingJobName},
    depends_on=[StepDependency(train, TriggerCondition.FAILED)],
)
pipeline = Pipeline(
    name="pipelines-rendered",
    parameters=[script, hosts, threshold, wanted, stage],
    steps=[train, judge, approve, good, tell],
    sagemaker_session=session,
)

if __name__ == "__main__":
    text = json.dumps(json.loads(pipeline.definition()), indent=2)
    Path(__file__).with_name("definition.json").write_text(f"{text}\n")
