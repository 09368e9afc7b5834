"""The table of instance types: comparison with botocore, and refusals of the local cloud."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from local.sagemaker import instance_types
from local.sagemaker.api import ApiError, service_model
from settings.instance_types import CUDA

ROOT = Path(__file__).resolve().parents[2]
TABLE = tomllib.loads((ROOT / "constructs/groundplan/instance_types.toml").read_text())
AMI, OLD_AMI, NEURON = (
    "al2023-ami-sagemaker-inference-gpu-4-1",
    "al2-ami-sagemaker-inference-gpu-2",
    "al2-ami-sagemaker-inference-neuron-2",
)


@pytest.mark.parametrize(
    ("use", "shape"),
    [
        ("hosting", "ProductionVariantInstanceType"),
        ("training", "TrainingInstanceType"),
        ("notebook", "InstanceType"),
    ],
)
def test_table_has_the_types_that_sagemaker_offers(use: str, shape: str):
    listed = {
        f"ml.{name}.{size}"
        for name, family in TABLE["families"].items()
        for size in family.get(use, "").split()
    }
    assert listed == set(service_model().shape_for(shape).enum)


def test_each_host_image_has_its_documented_cuda_version():
    shape = service_model().shape_for("ProductionVariant").members["InferenceAmiVersion"]
    sections = re.findall(r"<dt>(\S+?)</dt> <dd>(.*?)</dd>", shape.documentation)
    documented = {name: re.search(r"CUDA version: ([\d.]+)", text) for name, text in sections}
    for version, needed in TABLE["cuda"].items():
        assert needed["inference_ami"] in shape.enum
        said = documented[needed["inference_ami"]]
        assert said
        assert said[1] == version


def test_images_with_a_gpu_have_the_cuda_of_the_settings():
    bases = tomllib.loads((ROOT / "containers/bases.toml").read_text())["base"]
    versions = {base["software"]["cuda"] for base in bases if "cuda" in base["software"]}
    assert versions == {CUDA}


@pytest.mark.parametrize("instance", ["ml.g4dn.xlarge", "ml.g5.2xlarge", "ml.p4d.24xlarge", "ml.r5d.large"])
def test_volume_key_is_refused_where_disks_are_local(instance: str):
    with pytest.raises(ApiError, match=f"VolumeKmsKeyId can't be requested for instance type {instance}"):
        instance_types.check_volume_key(instance, "arn:key")
    instance_types.check_volume_key(instance, None)
    instance_types.check_volume_key("ml.m5.large", "arn:key")


@pytest.mark.parametrize(
    ("instance", "version"),
    [("ml.m5.large", AMI), ("ml.m5.large", NEURON), ("ml.g5.xlarge", NEURON), ("ml.inf2.xlarge", OLD_AMI)],
)
def test_host_image_of_another_accelerator_is_refused(instance: str, version: str):
    with pytest.raises(ApiError, match=f"{version} is not supported for instance type {instance}"):
        instance_types.check_inference_ami(instance, version)


def test_host_image_of_the_instances_accelerator_is_accepted():
    instance_types.check_inference_ami("ml.g5.xlarge", AMI)
    instance_types.check_inference_ami("ml.g4dn.xlarge", OLD_AMI)
    instance_types.check_inference_ami("ml.inf2.xlarge", NEURON)
    instance_types.check_inference_ami("ml.m5.large", None)


@pytest.mark.parametrize("instance", ["ml.g6.xlarge", "ml.p5.48xlarge", "ml.inf2.xlarge"])
def test_multi_model_endpoint_is_refused_on_unsupported_accelerators(instance: str):
    with pytest.raises(ApiError, match=f"Multi-model endpoints do not support instance type {instance}"):
        instance_types.check_multi_model(instance)
    instance_types.check_multi_model("ml.g5.xlarge")
    instance_types.check_multi_model("ml.m5.large")
