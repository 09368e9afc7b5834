"""Settings of the local SageMaker: quotas, intervals and timeouts, with their defaults."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from local import faults
from local.sagemaker.api import ApiError, Context
from local.sagemaker.platform import Platform

DEFAULTS: dict[str, Any] = {
    # Quotas of an account in a Region. Names in quotation marks are those of Service Quotas.
    # Instances in use for each instance type. A spot job counts only towards `training_spot_instances`;
    # instances of warm pools count towards `training_instances` and `warm_pool_instances`.
    "training_instances": 20,  # "<instance type> for training job usage"
    "training_spot_instances": 20,  # "<instance type> for spot training job usage"
    "training_instances_per_job": 20,  # "Maximum number of instances per training job"
    "create_training_job_per_second": 1.0,  # sustained rate of CreateTrainingJob calls
    "create_training_job_burst": 5,  # size of the token bucket of these calls
    "warm_pool_instances": 20,  # "<instance type> for training warm pool usage"
    "processing_instances": 20,  # "<instance type> for processing job usage"
    "processing_instances_per_job": 20,  # "Maximum number of instances per processing job"
    "transform_instances": 20,  # "<instance type> for transform job usage"
    "transform_instances_per_job": 20,  # "Maximum number of instances per transform job"
    "labeling_tasks": 1000,  # objects of a job that labelers have at a time; AWS Support can raise it
    # "Maximum total concurrency that can be allocated across all serverless endpoints" of a new account
    "serverless_concurrency": 10,
    "pipelines": 500,  # "Maximum number of pipelines allowed per account"
    "pipeline_executions": 20,  # "Maximum number of concurrent pipeline executions allowed per account"
    "pipeline_steps": 50,  # in one definition
    "pipeline_parameters": 200,  # in one definition
    # Lambda's "Concurrent executions" of a new account. Reserved concurrency is checked against it. How many
    # functions run concurrently depends on the machine.
    "lambda_concurrent_executions": 10,
    # Intervals and timeouts in seconds, unless the comment has another unit.
    "training_launch": 0.0,  # duration of launching instances, unless a warm pool has them
    "training_stop_grace": 120.0,  # between SIGTERM and SIGKILL
    "training_checkpoint_interval": 3.0,  # between two searches for checkpoints to upload
    "training_spot_price": 0.3,  # not seconds: billable share of a second on spot capacity
    "training_log_interval": 0.5,  # between two deliveries of log lines and metrics
    "processing_stop_grace": 120.0,  # between SIGTERM and SIGKILL
    "processing_upload_interval": 3.0,  # between two searches for output to upload while the job runs
    "processing_log_interval": 0.5,  # between two deliveries of log lines
    "transform_retry": 0.1,  # delay before the first retry of a failed request; doubles with each retry
    "transform_log_interval": 0.5,  # between two deliveries of log lines
    # Labelers of labeling jobs are simulated.
    "labeling_labelers": 10,  # not seconds: number of labelers
    "labeling_accuracy": 0.9,  # not seconds: probability of a correct answer
    "labeling_truth_field": "true-class",  # not seconds: field of the manifest with the true class
    "labeling_answer": 0.0,  # time that the labelers need for one object
    "labeling_lambda_timeout": 900.0,  # timeout of an annotation Lambda function
    "labeling_log_interval": 0.5,  # between two deliveries of log lines
    "endpoint_startup_timeout": 480.0,  # limit for a container to answer /ping; a variant can set its own
    "serverless_startup_timeout": 180.0,  # the same limit for serverless variants
    "endpoint_stop_grace": 30.0,  # between SIGTERM and SIGKILL
    "endpoint_log_interval": 0.5,  # between two deliveries of log lines and metrics
    "serverless_idle": 300.0,  # time without requests after which a serverless container is stopped
    "invocation_timeout": 60.0,  # timeout of a request to a container
    "endpoint_volume_gb": 30.0,  # GB of an instance's volume for models; a variant can set its own
    "multi_model_busy": 4,  # not seconds: requests in flight from which an instance counts as busy
    "pipeline_poll": 0.25,  # between two checks of the steps of an execution
    "pipeline_lambda_timeout": 600.0,  # timeout of the function of a Lambda step
    "pipeline_execution_timeout": 2_419_200.0,  # 28 days, after which an execution fails
    "scaling_period": 60.0,  # period of the metrics of scaling policies
    "stream_retry": 0.5,  # delay before a failed batch's first retry; doubles to at most 20 times this
    "notebook_transition": 0.5,  # duration of a notebook instance's transitional statuses
    "container_isolation": "auto",  # not seconds: auto, namespaces or plain; see `isolation.py`
    **faults.DEFAULTS,
}
"""Settings and their defaults. `Platform.settings` overrides them, also while the cloud runs."""


def setting(platform: Platform, name: str) -> Any:
    return platform.settings.get(name, DEFAULTS[name])


class Pace:
    """A token bucket: at most `burst` calls at once, and `rate` calls per second in the long run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = math.inf  # starts full
        self._at = time.monotonic()

    def take(self, rate: float, burst: float) -> bool:
        with self._lock:
            now = time.monotonic()
            self._tokens = min(burst, self._tokens + (now - self._at) * rate)
            self._at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


def throttle(context: Context, operation: str, rate: float, burst: float) -> None:
    """Raise `ThrottlingException`, which SDKs retry, if the calls of an operation exceed the rate limit."""
    key = ("pace", context.account, context.region, operation)
    with context.store.store.exclusive():
        pace = context.store.store.live.setdefault(key, Pace())
    if not pace.take(rate, burst):
        raise ApiError("ThrottlingException", "Rate exceeded", 400)


def limit_exceeded(quota: str, limit: int, used: int, asked: int, unit: str = "Instances") -> ApiError:
    """Return the error `ResourceLimitExceeded` with the service's message."""
    return ApiError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{quota}' is {limit} {unit}, with current utilization of {used} "
        f"{unit} and a request delta of {asked} {unit}. Please use AWS Service Quotas to request an increase "
        "for this quota. If AWS Service Quotas is not available, contact AWS support to request an increase "
        "for this quota.",
    )
