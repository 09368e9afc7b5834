"""AWS CDK constructs for machine learning: small roles, safe defaults, nothing left running."""

from groundplan.artifact_bucket import ArtifactBucket
from groundplan.clean_up import CleanUp
from groundplan.dead_letters import dead_letters
from groundplan.domain import SageMakerDomain
from groundplan.http_api import HttpApi
from groundplan.image import ContainerImage, RepositoryImage
from groundplan.labeling_job import LabelingJob, LabelingTask
from groundplan.left_running import LeftRunning
from groundplan.log_group import log_group, log_group_arn
from groundplan.machine import not_succeeded, state_machine
from groundplan.model_pipeline import ModelPipeline, PipelineJobs
from groundplan.model_registry import ModelRegistry
from groundplan.multi_model_endpoint import Instances, MultiModelEndpoint
from groundplan.names import NameTooLongError, physical_name
from groundplan.network import Network
from groundplan.notebook import AutoStop, SageMakerNotebook
from groundplan.pager import Pager
from groundplan.permissions import acknowledge, allow
from groundplan.python_function import Package, PythonFunction, allow_key
from groundplan.query_tables import HourlyTable, QueryTables, View
from groundplan.removal import removal
from groundplan.sagemaker_role import SageMakerRole
from groundplan.secret import EmptySecret
from groundplan.static_site import SiteFiles, StaticSite
from groundplan.train_and_deploy import TrainAndDeploy
from groundplan.user_api import UserApi
from groundplan.users import Users
from groundplan.workflow import EXECUTION_SUFFIX, Metric, ServerlessEndpoint, TrainingJobs

__all__ = [
    "EXECUTION_SUFFIX",
    "ArtifactBucket",
    "AutoStop",
    "CleanUp",
    "ContainerImage",
    "EmptySecret",
    "HourlyTable",
    "HttpApi",
    "Instances",
    "LabelingJob",
    "LabelingTask",
    "LeftRunning",
    "Metric",
    "ModelPipeline",
    "ModelRegistry",
    "MultiModelEndpoint",
    "NameTooLongError",
    "Network",
    "Package",
    "Pager",
    "PipelineJobs",
    "PythonFunction",
    "QueryTables",
    "RepositoryImage",
    "SageMakerDomain",
    "SageMakerNotebook",
    "SageMakerRole",
    "ServerlessEndpoint",
    "SiteFiles",
    "StaticSite",
    "TrainAndDeploy",
    "TrainingJobs",
    "UserApi",
    "Users",
    "View",
    "acknowledge",
    "allow",
    "allow_key",
    "dead_letters",
    "log_group",
    "log_group_arn",
    "not_succeeded",
    "physical_name",
    "removal",
    "state_machine",
]
