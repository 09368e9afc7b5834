"""A CDK app with a `LabelingJob` and the annotation functions of data_centric."""

from __future__ import annotations

from aws_cdk import App, CfnOutput, Stack
from aws_cdk import aws_kms as kms

from groundplan import ArtifactBucket, LabelingJob, LabelingTask, Package, PythonFunction
from stacks.shared import library_layer, runtime_code

TEAM = "arn:aws:sagemaker:{region}:000000000000:workteam/private-crowd/animals"


def animals(stack: Stack, region: str, key: kms.IKey | None = None) -> LabelingJob:
    """Add a labeling job for animals to a stack, with functions and a bucket that `key` encrypts."""
    bucket = ArtifactBucket(stack, "Data", cors=[LabelingJob.cors()], key=key)
    package = Package(code=runtime_code("data_centric"), layers=[library_layer(stack)])
    hooks = [
        PythonFunction(
            stack,
            f"{module}_annotation".title().replace("_", ""),
            package=package,
            handler=f"data_centric.handlers.{module}_annotation.handler",
            description=f"The {module}-annotation function",
        )
        for module in ("pre", "post")
    ]
    bucket.grant_read(hooks[1].role, "labels")
    job = LabelingJob(
        stack,
        "Animals",
        name=f"{stack.stack_name}-animals",
        task=LabelingTask(
            workteam_arn=TEAM.format(region=region),
            title="Which animal is it?",
            classes=["cat", "dog", "owl"],
            instructions="Choose the animal that the <picture> shows.",
        ),
        bucket=bucket,
        pre_annotation=hooks[0].function,  # pyright: ignore[reportArgumentType]
        post_annotation=hooks[1].function,  # pyright: ignore[reportArgumentType]
        tags={"team": "a"},
    )
    outputs = {
        "Bucket": bucket.bucket.bucket_name,
        "Machine": job.state_machine.state_machine_arn,
        "Role": job.role.role_arn,
        "Pre": hooks[0].function.function_arn,
        "Post": hooks[1].function.function_arn,
    }
    for name, value in outputs.items():
        CfnOutput(stack, name, value=value)
    return job


if __name__ == "__main__":
    app = App()
    animals(Stack(app, "labeling"), "eu-west-1")
    app.synth()
