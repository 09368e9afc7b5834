"""A stack with nothing but a sweep: `python -m tests.support.data_centric.sweep_app`, as the CDK's app."""

from __future__ import annotations

from aws_cdk import App, CfnOutput, Stack
from constructs import Construct

from groundplan import ArtifactBucket, Package, SageMakerRole
from stacks.data_centric.sweep import Sweep
from stacks.data_centric.sweep_machine import SweepJobs
from stacks.shared import CONTAINERS, docker_image, library_layer, runtime_code

STACK = "sweeps"
HYPERPARAMETERS = ("epochs", "interval", "batch_size", "learning_rate", "model", "threads", "augment")


class SweepStack(Stack):
    def __init__(self, scope: Construct, id: str, *, at_once: int = 2) -> None:
        super().__init__(scope, id)
        self.bucket = ArtifactBucket(self, "Artifacts")
        role = SageMakerRole(self, "Training", log_group="/aws/sagemaker/TrainingJobs")
        self.sweep = Sweep(
            self,
            "Sweep",
            jobs=SweepJobs(
                image=docker_image(self, "Image", CONTAINERS / "data_centric" / "subset_training"),
                role=role,
                hyperparameters={"epochs": "100", "threads": "1"},
                at_once=at_once,
            ),
            hyperparameters=HYPERPARAMETERS,
            bucket=self.bucket,
            tracking=True,
            package=Package(code=runtime_code("data_centric"), layers=[library_layer(self)]),
            tags={"groundplan:architecture": "data_centric"},
        )
        CfnOutput(self, "BucketName", value=self.bucket.bucket.bucket_name)
        CfnOutput(self, "SweepArn", value=self.sweep.state_machine.state_machine_arn)


if __name__ == "__main__":
    app = App()
    SweepStack(app, STACK)
    app.synth()
