"""The pipeline of `power_bidding`, written with the SageMaker Python SDK and rendered to `definition.json`.

    .groundplan/envs/notebooks/bin/python -m pipelines.power_bidding.render

Train -> Evaluate -> Better? -> Register -> Deploy

The stack replaces the placeholders `${NAME}` when it is deployed. This program needs the Python environment
`notebooks` (`python -m tooling.envs notebooks`), but no network.
"""

# ruff: noqa: E402 - importing the SDK requires a Region, so `AWS_DEFAULT_REGION` is set first

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

REGION = os.environ["AWS_DEFAULT_REGION"] = "eu-west-1"
"""Any Region. In the definition, a placeholder for the stack's Region replaces it."""

from sagemaker.core.lambda_helper import Lambda
from sagemaker.core.processing import Processor
from sagemaker.core.shapes import (
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
)
from sagemaker.core.training.configs import (
    Compute,
    InputData,
    Networking,
    OutputDataConfig,
    StoppingCondition,
)
from sagemaker.core.workflow.conditions import ConditionEquals
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.core.workflow.parameters import ParameterString
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.lambda_step import LambdaOutput, LambdaOutputTypeEnum, LambdaStep
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.retry import (
    SageMakerJobExceptionTypeEnum,
    SageMakerJobStepRetryPolicy,
    StepExceptionTypeEnum,
    StepRetryPolicy,
)
from sagemaker.mlops.workflow.steps import ProcessingStep, TrainingStep
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

BUCKET, IMAGE = "${Bucket}", "${Image}"
# the SageMaker SDK looks a role up in IAM unless its name has the form of an ARN
ROLE, SERVING_ROLE = (
    f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:role/${{{name}}}"
    for name in ("TrainingRole", "ServingRole")
)
WORK = "/opt/ml/processing"
JSON = "application/json"
EXECUTION = ExecutionVariables.PIPELINE_EXECUTION_ID


class OfflineSession(PipelineSession):
    """A session with a fixed default bucket, so that the SDK does not request one from AWS."""

    def default_bucket(self) -> str:
        return BUCKET


session = OfflineSession()
request = ParameterString("Request")
hour = ParameterString("Hour")
training = ParameterString("Training")


def of_training(folder: str) -> Join:
    """Return the URI of `history` or `champion`, the folders below the pipeline parameter `Training`."""
    return Join(on="/", values=[training, folder])


retries = [
    StepRetryPolicy(
        [StepExceptionTypeEnum.SERVICE_FAULT, StepExceptionTypeEnum.THROTTLING],
        interval_seconds=5,
        max_attempts=5,
    ),
    SageMakerJobStepRetryPolicy(
        failure_reason_types=[
            SageMakerJobExceptionTypeEnum.CAPACITY_ERROR,
            SageMakerJobExceptionTypeEnum.INTERNAL_ERROR,
        ],
        interval_seconds=60,
        max_attempts=3,
    ),
]
trainer = ModelTrainer(
    training_image=IMAGE,
    role=ROLE,
    sagemaker_session=session,
    base_job_name="${Name}",
    compute=Compute(instance_type="${InstanceType}", instance_count=1, volume_size_in_gb=30),
    networking=Networking(enable_network_isolation=True),
    input_data_config=[InputData(channel_name="history", data_source=of_training("history"))],
    output_data_config=OutputDataConfig(
        s3_output_path=Join(on="/", values=[f"s3://{BUCKET}/models", EXECUTION])
    ),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=3600),
    hyperparameters={"time_zone": "${TimeZone}", "asset": "${Asset}", "network_loss": "${NetworkLoss}"},
)
train = TrainingStep(name="Train", step_args=trainer.train(), retry_policies=retries)


def given(name: str, uri: object) -> ProcessingInput:
    return ProcessingInput(
        input_name=name,
        s3_input=ProcessingS3Input(
            s3_uri=uri,
            local_path=f"{WORK}/{name}",
            s3_data_type="S3Prefix",
            s3_input_mode="File",
            s3_data_distribution_type="FullyReplicated",
        ),
    )


metrics = PropertyFile(name="Evaluation", output_name="evaluation", path="evaluation.json")
judge = Processor(
    role=ROLE,
    image_uri=IMAGE,
    instance_count=1,
    instance_type="${InstanceType}",
    entrypoint=["python", "-m", "power_forecaster", "evaluate"],
    max_runtime_in_seconds=3600,
    sagemaker_session=session,
)
evaluate = ProcessingStep(
    name="Evaluate",
    step_args=judge.run(
        arguments=["--floor", "${Floor}"],
        inputs=[
            given("history", of_training("history")),
            given("champion", of_training("champion")),
            given("candidate", train.properties.ModelArtifacts.S3ModelArtifacts),
        ],
        outputs=[
            ProcessingOutput(
                output_name="evaluation",
                s3_output=ProcessingS3Output(
                    s3_uri=Join(on="/", values=[f"s3://{BUCKET}/evaluation", EXECUTION]),
                    s3_upload_mode="EndOfJob",
                    local_path=f"{WORK}/output",
                ),
            )
        ],
    ),
    property_files=[metrics],
    retry_policies=retries,
)


accepted, capture = (
    JsonGet(step_name=evaluate.name, property_file=metrics, json_path=path)
    for path in ("accepted", "capture.candidate")
)
builder = ModelBuilder(
    image_uri="${ServingImage}",
    role_arn=SERVING_ROLE,
    sagemaker_session=session,
    s3_model_data_url=train.properties.ModelArtifacts.S3ModelArtifacts,
    model_path=tempfile.mkdtemp(),
)
register = ModelStep(
    name="Register",
    step_args=builder.register(
        model_package_group_name="${ModelPackageGroup}",
        content_types=[JSON],
        response_types=[JSON],
        inference_instances=["${InstanceType}"],
        transform_instances=["${InstanceType}"],
        approval_status="Approved",
        customer_metadata_properties={"request": request, "hour": hour},
    ),
)
deploy = LambdaStep(
    name="Deploy",
    lambda_func=Lambda(function_arn="${DeployFunction}"),
    inputs={
        "version": register.properties.ModelPackageArn,
        "image": "${ServingImage}",
        "model_data": train.properties.ModelArtifacts.S3ModelArtifacts,
        "request": request,
        "hour": hour,
        "capture": capture,
    },
    outputs=[LambdaOutput("endpoint", LambdaOutputTypeEnum.String)],
)
better = ConditionStep(
    name="Better",
    conditions=[ConditionEquals(left=accepted, right=True)],
    if_steps=[register, deploy],
    else_steps=[],
)
pipeline = Pipeline(
    name="power-bidding",
    parameters=[request, hour, training],
    steps=[train, evaluate, better],
    sagemaker_session=session,
)


def rendered() -> str:
    """Return the definition as JSON text with a final line end."""
    text = json.dumps(json.loads(pipeline.definition()), indent=2) + "\n"
    return text.replace(REGION, "${AWS::Region}")


if __name__ == "__main__":
    Path(__file__).with_name("definition.json").write_text(rendered())
