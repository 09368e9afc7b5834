"""Transform jobs."""

from local.sagemaker.transform.operations import recover

__all__ = ["recover"]
