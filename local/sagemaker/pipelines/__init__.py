"""Pipelines: definitions, and executions that run their steps."""

from local.sagemaker.pipelines import operations
from local.sagemaker.pipelines.executions import recover, shutdown

__all__ = ["operations", "recover", "shutdown"]
