"""Every image starts from a base image that `containers/bases.toml` lists, with the date of the choice."""

from __future__ import annotations

import datetime
import tomllib

import pytest

from local.images import bases
from tooling import envs, registries

REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
CONTAINERS = envs.ROOT / "containers"
BASES = {base["image"]: base for base in tomllib.loads((CONTAINERS / "bases.toml").read_text())["base"]}


def test_every_dockerfile_starts_from_a_listed_base():
    dockerfiles = list(CONTAINERS.glob("*/*/Dockerfile"))
    assert dockerfiles
    for path in dockerfiles:
        starts = registries.bases(path)
        assert starts
        for image in starts:
            assert image in BASES, f"{path} starts FROM {image}, which containers/bases.toml does not list"


def test_local_builder_finds_a_base_from_any_registry():
    (dockerfile,) = (path for path in CONTAINERS.glob("*/*/Dockerfile") if "ARG REGISTRY" in path.read_text())
    for registry in (REGISTRY, "123456789012.dkr.ecr.eu-west-1.amazonaws.com", "a.b:5000/c"):
        (image,) = registries.bases(dockerfile, {"REGISTRY": registry} if registry != REGISTRY else {})
        assert image == f"{registry}/sagemaker-tritonserver:25.09-py3"
        assert bases.find(image).packages
    with pytest.raises(LookupError, match="is not known"):
        bases.find("a.b:5000/c/python:3.11-slim")


def test_base_image_has_a_tag_or_digest_and_its_date():
    for image, base in BASES.items():
        assert ":" in image.rpartition("/")[2]
        assert not image.endswith(":latest")
        assert isinstance(base["chosen"], datetime.date)
        assert base["why"]
