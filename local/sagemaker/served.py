"""Lookup of the container definition and the role with which a model is served."""

from __future__ import annotations

from local.sagemaker import models, records, registry
from local.sagemaker.api import Context
from local.sagemaker.serving_container import ServingError
from local.sagemaker.store import Record


def of_model(context: Context, name: str) -> Record:
    """Return the `ExecutionRoleArn` and the `Container` of a model, from the model or its model package.

    Raises ServingError if the model cannot be served, and ApiError if its model package does not exist."""
    model = context.store.get(models.MODEL, name)
    if model is None:
        raise ServingError(models.missing_model(context, name))
    if not model.get("ExecutionRoleArn"):
        raise ServingError(f"Model {name} has no ExecutionRoleArn.")
    definitions = models.containers(model)
    if len(definitions) > 1:
        raise ServingError(
            f"Model {name} has several containers; "
            "inference pipelines are not implemented in the local cloud."
        )
    container = dict(definitions[0])
    if package := container.get("ModelPackageName"):
        container = _packaged(context, container, package)
    return {"ExecutionRoleArn": model["ExecutionRoleArn"], "Container": container}


def _packaged(context: Context, container: Record, name: str) -> Record:
    """Return a model's container definition, completed with the image and data of its model package `name`.

    The data and environment variables of the definition take precedence over the package's."""
    package = registry.find_package(context, name)
    specification = package["InferenceSpecification"]
    if wanted := container.get("InferenceSpecificationName"):
        others = package.get("AdditionalInferenceSpecifications", [])
        specification = next((each for each in others if each["Name"] == wanted), None)
        if specification is None:
            raise ServingError(f"Model package {package['ModelPackageArn']} has no specification {wanted}.")
    if len(specification["Containers"]) > 1:
        raise ServingError(
            f"Model package {package['ModelPackageArn']} has several containers; "
            "inference pipelines are not implemented in the local cloud."
        )
    inside = specification["Containers"][0]
    data = records.summary(container, "ModelDataUrl", "ModelDataSource") or records.summary(
        inside, "ModelDataUrl", "ModelDataSource"
    )
    environment = inside.get("Environment", {}) | container["Environment"]
    mode = records.summary(container, "Mode", "MultiModelConfig")
    return {"Image": inside["Image"], "Environment": environment} | data | mode
