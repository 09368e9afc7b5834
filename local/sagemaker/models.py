"""Models and endpoint configurations: records with the service's validation.

CreateModel does not check that the image and the model data exist and that the model's role may read them:
that is checked when an endpoint starts (`hosting.py`). But CreateModel refuses an existing image whose
manifest has a media type of the Open Container Initiative.
"""

from __future__ import annotations

from typing import Any

from local.sagemaker import instance_types, records, registry
from local.sagemaker.api import Context, invalid, now, operation, page
from local.sagemaker.store import Record

MODEL, CONFIG = "model", "endpoint-config"


def missing_model(context: Context, name: str) -> str:
    return f'Could not find model "{context.arn(MODEL, name)}".'


def missing_config(context: Context, name: str) -> str:
    return f'Could not find endpoint configuration "{context.arn(CONFIG, name)}".'


# Models


@operation("CreateModel", records.named(MODEL, "ModelName"), roles=("ExecutionRoleArn",))
def create_model(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    if bool(params.get("PrimaryContainer")) == bool(params.get("Containers")):
        raise invalid("Exactly one of PrimaryContainer and Containers must be given.")
    for container in containers(params):
        _check_container(context, container)
    name = params["ModelName"]
    record = {key: value for key, value in params.items() if key != "Tags"} | {
        "ModelArn": context.arn(MODEL, name),
        "CreationTime": now(),
        "EnableNetworkIsolation": params.get("EnableNetworkIsolation", False),
    }
    for container in containers(record):
        container.setdefault("Mode", "SingleModel")
        container.setdefault("Environment", {})
    taken = f'Cannot create already existing model "{context.arn(MODEL, name)}".'
    return {"ModelArn": records.create(context, MODEL, name, record, params.get("Tags"), taken)}


def containers(model: Record) -> list[Record]:
    """Return a model's container definitions, in the order of their invocation."""
    return model.get("Containers") or [model["PrimaryContainer"]]


def _check_container(context: Context, container: Record) -> None:
    if container.get("ModelPackageName"):
        if container.get("Image"):
            raise invalid("A container takes its image from Image or from ModelPackageName, not from both.")
        package = registry.find_package(context, container["ModelPackageName"])
        if package["ModelPackageStatus"] != "Completed":
            raise invalid(f"Model package {package['ModelPackageArn']} is not in status Completed.")
        approval = package.get("ModelApprovalStatus", "Approved")
        if approval != "Approved":
            raise invalid(f"Model package {package['ModelPackageArn']} is {approval}; it must be Approved.")
        if not package.get("InferenceSpecification"):
            raise invalid(f"Model package {package['ModelPackageArn']} has no inference specification.")
        for each in package["InferenceSpecification"]["Containers"]:
            _check_manifest(context, each.get("Image", ""))
    elif not container.get("Image"):
        raise invalid("A container needs an Image or a ModelPackageName.")
    else:
        _check_manifest(context, container["Image"])
    if container.get("ModelDataUrl") and container.get("ModelDataSource"):
        raise invalid("Only one of ModelDataUrl and ModelDataSource can be given.")
    if container.get("Mode") == "MultiModel" and not (
        container.get("ModelDataUrl") or container.get("ModelDataSource")
    ):
        raise invalid("A container in mode MultiModel needs the S3 prefix of its models as ModelDataUrl.")
    source = container.get("ModelDataSource", {}).get("S3DataSource")
    if source:
        kind, compression = source["S3DataType"], source["CompressionType"]
        if kind == "S3Prefix" and compression == "Gzip":
            raise invalid("An S3Prefix cannot have the CompressionType Gzip; name the archive as S3Object.")
        if kind == "S3Prefix" and not source["S3Uri"].endswith("/"):
            raise invalid(f"The S3Uri of an S3Prefix must end with a slash: {source['S3Uri']}")


def _check_manifest(context: Context, uri: str) -> None:
    """Raise ApiError for an image whose manifest has a media type of the Open Container Initiative.

    The error message is SageMaker's: https://github.com/aws/amazon-sagemaker-feedback/issues/180.
    """
    kind = context.platform.manifest_type(uri)
    if kind and kind.startswith("application/vnd.oci."):
        raise invalid(
            f"Unsupported manifest media type {kind} for image {uri}. "
            "Ensure that valid manifest media type is used for specified image."
        )


@operation("DescribeModel", records.named(MODEL, "ModelName"))
def describe_model(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    name = params["ModelName"]
    return records.find(context, MODEL, name, missing_model(context, name))


@operation("ListModels")
def list_models(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    found = context.store.all(MODEL)
    return page(
        params, [records.summary(each, "ModelName", "ModelArn", "CreationTime") for each in found], "Models"
    )


@operation("DeleteModel", records.named(MODEL, "ModelName"))
def delete_model(context: Context, params: dict[str, Any]) -> None:
    name = params["ModelName"]
    records.remove(context, MODEL, name, missing_model(context, name))


# Endpoint configurations

_SERVERLESS_MEMORY = range(1024, 6145, 1024)
_OF_INSTANCES = ("InstanceType", "InitialInstanceCount", "AcceleratorType", "VolumeSizeInGB")
_UNBUILT = ("AsyncInferenceConfig", "ExplainerConfig", "ShadowProductionVariants")


@operation("CreateEndpointConfig", records.named(CONFIG, "EndpointConfigName"), roles=("ExecutionRoleArn",))
def create_endpoint_config(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    records.refuse_unbuilt("CreateEndpointConfig", params, *_UNBUILT)
    names = [variant["VariantName"] for variant in params["ProductionVariants"]]
    if len(set(names)) != len(names):
        raise invalid("The names of the production variants must differ from each other.")
    for variant in params["ProductionVariants"]:
        _check_variant(context, variant, params)
    if not any(variant.get("InitialVariantWeight", 1.0) for variant in params["ProductionVariants"]):
        raise invalid("At least one production variant must have a weight above 0.")
    name = params["EndpointConfigName"]
    record = {key: value for key, value in params.items() if key != "Tags"} | {
        "EndpointConfigArn": context.arn(CONFIG, name),
        "CreationTime": now(),
        "EnableNetworkIsolation": params.get("EnableNetworkIsolation", False),
        "ProductionVariants": [{"InitialVariantWeight": 1.0} | each for each in params["ProductionVariants"]],
    }
    taken = f'Cannot create already existing endpoint configuration "{context.arn(CONFIG, name)}".'
    return {"EndpointConfigArn": records.create(context, CONFIG, name, record, params.get("Tags"), taken)}


def _check_variant(context: Context, variant: Record, config: Record) -> None:
    name = variant["VariantName"]
    records.refuse_unbuilt("CreateEndpointConfig", variant, "InstancePools", "ManagedInstanceScaling")
    if not variant.get("ModelName"):
        # ExecutionRoleArn without ModelName is for inference components
        records.refuse_unbuilt("CreateEndpointConfig", config, "ExecutionRoleArn")
        raise invalid(f"Production variant {name} needs a ModelName.")
    model = records.find(context, MODEL, variant["ModelName"], missing_model(context, variant["ModelName"]))
    serverless = variant.get("ServerlessConfig")
    if serverless is None:
        if not variant.get("InstanceType") or not variant.get("InitialInstanceCount"):
            raise invalid(
                f"Production variant {name} needs InstanceType and InitialInstanceCount, "
                "or a ServerlessConfig."
            )
        instance_types.check_inference_ami(variant["InstanceType"], variant.get("InferenceAmiVersion"))
        if any(container.get("Mode") == "MultiModel" for container in containers(model)):
            instance_types.check_multi_model(variant["InstanceType"])
        return
    both = next((member for member in _OF_INSTANCES if variant.get(member) is not None), None)
    if both:
        raise invalid(f"Production variant {name} has a ServerlessConfig: {both} cannot be given as well.")
    if serverless["MemorySizeInMB"] not in _SERVERLESS_MEMORY:
        sizes = ", ".join(map(str, _SERVERLESS_MEMORY))
        raise invalid(f"MemorySizeInMB {serverless['MemorySizeInMB']} is not one of {sizes}.")
    if serverless.get("ProvisionedConcurrency", 0) > serverless["MaxConcurrency"]:
        raise invalid("ProvisionedConcurrency must be at most MaxConcurrency.")
    # Features that AWS documents as unsupported on serverless endpoints
    if len(config["ProductionVariants"]) > 1:
        raise invalid("A serverless endpoint can have one production variant only.")
    if config.get("DataCaptureConfig", {}).get("EnableCapture"):
        raise invalid("DataCaptureConfig is not supported on serverless endpoints.")
    if model.get("VpcConfig") or model.get("EnableNetworkIsolation"):
        raise invalid(
            f"Model {variant['ModelName']} has a VpcConfig or network isolation, "
            "which serverless endpoints do not support."
        )
    if len(containers(model)) > 1 or containers(model)[0].get("Mode") == "MultiModel":
        raise invalid(
            f"Model {variant['ModelName']} has several containers or models, "
            "which serverless endpoints do not support."
        )


@operation("DescribeEndpointConfig", records.named(CONFIG, "EndpointConfigName"))
def describe_endpoint_config(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    name = params["EndpointConfigName"]
    found = records.find(context, CONFIG, name, missing_config(context, name))
    return found


@operation("ListEndpointConfigs")
def list_endpoint_configs(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    members = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
    found = [records.summary(each, *members) for each in context.store.all(CONFIG)]
    return page(params, found, "EndpointConfigs")


@operation("DeleteEndpointConfig", records.named(CONFIG, "EndpointConfigName"))
def delete_endpoint_config(context: Context, params: dict[str, Any]) -> None:
    name = params["EndpointConfigName"]
    records.remove(context, CONFIG, name, missing_config(context, name))
