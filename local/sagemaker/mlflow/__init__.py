"""MLflow apps."""

from local.sagemaker.mlflow.operations import HEADER, invoke, shutdown

__all__ = ["HEADER", "invoke", "shutdown"]
