"""Labeling jobs of Ground Truth, with simulated labelers."""

from local.sagemaker.labeling.operations import recover

__all__ = ["recover"]
