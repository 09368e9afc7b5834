"""Quotas and paces of the local SageMaker: every one by name, with its default, in one table."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from local import faults
from local.sagemaker.api import ApiError, Context
from local.sagemaker.platform import Platform

DEFAULTS: dict[str, Any] = {
    # Quotas of an account in a Region, as Service Quotas has them.
    # At once, for each instance type. A job on spot capacity counts towards the second alone; what waits in a
    # warm pool counts towards the first and the third.
    "training_instances": 20,  # "<instance type> for training job usage"
    "training_spot_instances": 20,  # "<instance type> for spot training job usage"
    "training_instances_per_job": 20,  # "Maximum number of instances per training job"
    "create_training_job_per_second": 1.0,  # what CreateTrainingJob sustains
    "create_training_job_burst": 5,  # calls let through at once after a pause
    "warm_pool_instances": 20,  # "<instance type> for training warm pool usage"
    "processing_instances": 20,  # "<instance type> for processing job usage"
    "processing_instances_per_job": 20,  # "Maximum number of instances per processing job"
    "transform_instances": 20,  # "<instance type> for transform job usage"
    "transform_instances_per_job": 20,  # "Maximum number of instances per transform job"
    "labeling_tasks": 1000,  # objects of a labeling job that labelers have at once; AWS Support raises it
    # "Maximum total concurrency that can be allocated across all serverless endpoints", of a new account
    "serverless_concurrency": 10,
    "pipelines": 500,  # "Maximum number of pipelines allowed per account"
    "pipeline_executions": 20,  # "Maximum number of concurrent pipeline executions allowed per account"
    "pipeline_steps": 50,  # in one definition
    "pipeline_parameters": 200,  # in one definition, which is what an execution can be given
    # Lambda's "Concurrent executions", of a new account: what reservations are held against. How many run at
    # once depends on the machine.
    "lambda_concurrent_executions": 10,
    # Paces, in seconds.
    "training_launch": 0.0,  # until instances stand that no warm pool has ready
    "training_stop_grace": 120.0,  # between SIGTERM and SIGKILL
    "training_checkpoint_interval": 3.0,  # between two looks for checkpoints to copy
    "training_spot_price": 0.3,  # not seconds: what a second on spot capacity is billed as
    "training_log_interval": 0.5,  # between two deliveries of log lines and metrics
    "processing_stop_grace": 120.0,  # between SIGTERM and SIGKILL
    "processing_upload_interval": 3.0,  # between two looks for output to upload while the job runs
    "processing_log_interval": 0.5,  # between two deliveries of log lines
    "transform_retry": 0.1,  # before a request that failed is sent again; doubles each time
    "transform_log_interval": 0.5,  # between two deliveries of log lines
    # Labelers of labeling jobs are simulated.
    "labeling_labelers": 10,  # not seconds: how many there are
    "labeling_accuracy": 0.9,  # not seconds: probability of a right answer
    "labeling_truth_field": "true-class",  # not seconds: field of the manifest with the true class
    "labeling_answer": 0.0,  # until an object's labelers have answered
    "labeling_lambda_timeout": 900.0,  # for an annotation function to answer
    "labeling_log_interval": 0.5,  # between two deliveries of log lines
    "endpoint_startup_timeout": 480.0,  # a container must answer /ping by then, unless its variant says when
    "serverless_startup_timeout": 180.0,  # the same for serverless variants
    "endpoint_stop_grace": 30.0,  # between SIGTERM and SIGKILL
    "endpoint_log_interval": 0.5,  # between two deliveries of log lines and metrics
    "serverless_idle": 300.0,  # without a request, until a serverless container is stopped
    "invocation_timeout": 60.0,  # for a container to answer a request
    "endpoint_volume_gb": 30.0,  # an instance's volume, unless its variant says; models fill it
    "multi_model_busy": 4,  # requests under way on an instance, until another takes on its models too
    "pipeline_poll": 0.25,  # between two looks at the steps of an execution
    "pipeline_lambda_timeout": 600.0,  # for the function of a Lambda step to answer
    "pipeline_execution_timeout": 2_419_200.0,  # 28 days: an execution fails then
    "scaling_period": 60.0,  # the period by which scaling policies look at their metric
    "stream_retry": 0.5,  # before a function is given a failed batch again; doubles up to twenty times that
    "notebook_transition": 0.5,  # between a notebook instance's statuses
    "container_isolation": "auto",  # not seconds: auto, namespaces or plain; see `isolation.py`
    **faults.DEFAULTS,
}
"""Each may be set in `Platform.settings`, while the cloud runs too."""


def setting(platform: Platform, name: str) -> Any:
    return platform.settings.get(name, DEFAULTS[name])


class Pace:
    """A token bucket: `burst` calls at once, `rate` a second in the long run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = math.inf  # full, whatever the burst
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
    """Raises `ThrottlingException`, which the SDKs retry, when calls come faster than this pace."""
    key = ("pace", context.account, context.region, operation)
    with context.store.store.exclusive():
        pace = context.store.store.live.setdefault(key, Pace())
    if not pace.take(rate, burst):
        raise ApiError("ThrottlingException", "Rate exceeded", 400)


def limit_exceeded(quota: str, limit: int, used: int, asked: int, unit: str = "Instances") -> ApiError:
    """`ResourceLimitExceeded` in the service's own words."""
    return ApiError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{quota}' is {limit} {unit}, with current utilization of {used} "
        f"{unit} and a request delta of {asked} {unit}. Please use AWS Service Quotas to request an increase "
        "for this quota. If AWS Service Quotas is not available, contact AWS support to request an increase "
        "for this quota.",
    )
