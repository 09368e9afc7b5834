"""Training jobs."""

from local.sagemaker.training.operations import recover

__all__ = ["recover"]
