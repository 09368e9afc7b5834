"""An image is rebuilt only when its content changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from aws_cdk import App, Stack

import architectures
from stacks import shared
from tests.synth.conftest import ROOT

CONTAINERS = ROOT / "containers"
IMAGES = sorted(path.parent.relative_to(CONTAINERS) for path in CONTAINERS.glob("*/*/Dockerfile"))


@pytest.fixture
def asset_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """A function that returns an image's asset hash in a copy of the build context, `tmp_path/containers`."""
    context = shutil.copytree(
        CONTAINERS, tmp_path / "containers", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(shared, "CONTAINERS", context)
    return lambda image: shared.docker_image(Stack(App(), "stack"), "Image", context / image).asset_hash


def changed(path: Path) -> None:
    path.write_text(path.read_text() + "\n# changed\n")


@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_image_is_rebuilt_only_when_its_content_changes(
    image: Path, asset_hash: Callable[[Path], str], tmp_path: Path
) -> None:
    context, before = tmp_path / "containers", asset_hash(image)
    # when only the image's documentation and other images change, then the image's hash stays the same
    changed(context / image / "README.md")
    (context / image / "notes.txt").write_text("not in the image")
    for other in IMAGES:
        if other != image:
            changed(context / other / "Dockerfile")
    assert asset_hash(image) == before
    # when one of these files changes, then the hash changes: the image's Dockerfile, its requirements, a
    # module of its package, a module of the toolkit
    lines = (context / image / "Dockerfile").read_text().splitlines()
    copied = [context / line.split()[1] for line in lines if line.startswith("COPY")]
    (package,) = (path for path in copied if (path / "__main__.py").exists())
    for path in (
        context / image / "Dockerfile",
        context / image / "requirements.txt",
        package / "__main__.py",
        context / "toolkit" / "options.py",
    ):
        known = asset_hash(image)
        changed(path)
        assert asset_hash(image) != known, path


@pytest.mark.parametrize("name", architectures.BY_NAME)
def test_images_are_pushed_with_a_manifest_that_sagemaker_accepts(name: str, assembly: Path) -> None:
    path = assembly / f"{architectures.BY_NAME[name].stack_name('dev')}.assets.json"
    images = json.loads(path.read_text())["dockerImages"].values()
    assert len(images) == len([image for image in IMAGES if image.parts[0] == name])
    for image in images:
        assert image["source"]["dockerOutputs"] == ["type=docker,oci-mediatypes=false"]
