"""Hyperparameter tuning jobs."""

from local.sagemaker.tuning.operations import recover

__all__ = ["recover"]
