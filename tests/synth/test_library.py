"""The construct library works in another project that has installed only its wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tooling import envs

APP = """
from pathlib import Path

from aws_cdk import App, Stack
from aws_cdk import aws_s3_assets as s3_assets

from groundplan import ArtifactBucket, CleanUp, ModelRegistry, SiteFiles, StaticSite, UserApi, Users
from groundplan.instance_types import device

app = App()
stack = Stack(app, "shop")
bucket = ArtifactBucket(stack, "Data")
registry = ModelRegistry(stack, "Models", name="shop", description="What sells")
CleanUp(stack, "CleanUp", endpoint_name="shop", bucket=bucket, registry=registry)
api = UserApi(stack, "Api", document=Path("openapi.json"), users=Users(stack, "Users"))
site = StaticSite(stack, "Site", api=api)
page = s3_assets.Asset(stack, "Page", path="page")
SiteFiles(stack, "Files", site=site, source=page, config={}, storage=bucket.bucket)
assert device("ml.g5.xlarge") == "cuda"
app.synth()
"""
DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "shop", "version": "1"},
    "paths": {"/api/orders": {"get": {"responses": {"200": {"description": "the orders"}}}}},
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("library")
    settings = os.environ | envs.pip_settings()
    leave_out = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    source = shutil.copytree(envs.ROOT / "constructs", folder / "source", ignore=leave_out)
    for command in (
        ["build", "--wheel", "--quiet", "--out-dir", str(folder / "dist"), str(source)],
        ["venv", "--quiet", "--python", str(envs.MACHINE_PYTHON), str(folder / "env")],
    ):
        subprocess.run([str(envs.uv()), *command], check=True, env=settings, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    python = envs.python_of(folder / "env")
    # In the versions that this project has locked
    lock = (envs.ROOT / "requirements.txt").read_text().splitlines()
    (folder / "locked.txt").write_text("\n".join(line for line in lock if not line.startswith("-e ")))
    install = ["pip", "install", "--quiet", "--python", str(python), "--constraint", "locked.txt", str(wheel)]
    subprocess.run([str(envs.uv()), *install], check=True, env=settings, cwd=folder)
    return python


def test_stack_of_another_project_needs_the_wheel_alone(
    python: Path, cut_off: dict[str, str], tmp_path: Path
) -> None:
    # given an app in an empty folder
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "openapi.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<!doctype html><title>shop</title>")
    # when it is synthesized
    done = subprocess.run(
        [str(python), "app.py"],
        cwd=tmp_path,
        env=cut_off | {"CDK_OUTDIR": str(tmp_path / "out")},
        capture_output=True,
        text=True,
    )
    # then its custom resources have the functions that serve them, with their code
    assert done.returncode == 0, done.stderr[-3000:]
    template = json.loads((tmp_path / "out" / "shop.template.json").read_text())
    kinds = Counter(resource["Type"] for resource in template["Resources"].values())
    assert kinds["Custom::SageMakerCleanUp"] == kinds["Custom::SiteFiles"] == 1
    assert kinds["AWS::Lambda::Function"] == 2
    code = [path for path in (tmp_path / "out").rglob("handler.py") if "def handler(" in path.read_text()]
    assert len(code) == 2
    for path in code:
        assert (path.parent / "groundplan" / "lambdas" / "custom_resource.py").is_file()
