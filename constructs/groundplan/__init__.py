"""AWS CDK constructs for machine learning: small roles, safe defaults, nothing left running."""

from groundplan.artifact_bucket import ArtifactBucket
from groundplan.clean_up import CleanUp
from groundplan.model_registry import ModelRegistry
from groundplan.network import Network
from groundplan.notebook import SageMakerNotebook
from groundplan.pager import Pager
from groundplan.permissions import acknowledge, allow
from groundplan.sagemaker_role import SageMakerRole
from groundplan.secret import EmptySecret
from groundplan.train_and_deploy import Metric, ServerlessEndpoint, TrainAndDeploy, TrainingJobs

__all__ = [
    "ArtifactBucket",
    "CleanUp",
    "EmptySecret",
    "Metric",
    "ModelRegistry",
    "Network",
    "Pager",
    "SageMakerNotebook",
    "SageMakerRole",
    "ServerlessEndpoint",
    "TrainAndDeploy",
    "TrainingJobs",
    "acknowledge",
    "allow",
]
