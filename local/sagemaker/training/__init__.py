"""Training jobs."""

from local.sagemaker.training.operations import recover, shutdown

__all__ = ["recover", "shutdown"]
