"""Processing jobs."""

from local.sagemaker.processing.operations import recover

__all__ = ["recover"]
