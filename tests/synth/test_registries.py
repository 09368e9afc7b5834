"""Preparation of a deployment: the command line, the stacks, the registries to log in to."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tooling import assembly, cdk, envs, registries

DEFAULT = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
OTHER = "763104351884.dkr.ecr.eu-central-1.amazonaws.com"
PROD = "shop-prod-search"
APP = """
import pathlib

from aws_cdk import App, CfnWaitConditionHandle, Stack
from aws_cdk import aws_ecr_assets as assets

app = App()
env, registry = (app.node.try_get_context(key) for key in ("env", "registry"))
page, search = (Stack(app, f"shop-{env}-{part}") for part in ("page", "search"))
for stack in (page, search):
    CfnWaitConditionHandle(stack, "Handle")  # the CDK refuses a stack without resources
assets.DockerImageAsset(
    search,
    "Image",
    directory=str(pathlib.Path(__file__).parent / "image"),
    build_args={"REGISTRY": registry},
)
app.synth()
"""
DOCKERFILE = f"""
ARG REGISTRY={DEFAULT}
FROM ${{REGISTRY}}/sagemaker-tritonserver:1
"""


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A program that records its arguments and input, and fails if there is a file `refuse` next to it."""
    program = tmp_path / "docker"
    # a shell script, because the interpreter in a shebang line cannot have a path with spaces
    python, script = shlex.quote(sys.executable), shlex.quote(f"{tmp_path}/docker.py")
    program.write_text(f'#!/bin/sh\nexec {python} {script} "$@"\n')
    Path(tmp_path, "docker.py").write_text(
        "import pathlib, sys\n"
        "here = pathlib.Path(__file__).parent\n"
        "(here / 'called').write_text(' '.join(sys.argv[1:]) + '\\n' + sys.stdin.read())\n"
        "if (here / 'refuse').exists(): sys.exit('Cannot connect to the Docker daemon')\n"
    )
    program.chmod(0o755)
    return program


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server of ECR's GetAuthorizationToken operation; yields the Regions that requests were signed for."""
    regions: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            regions.append(self.headers["Authorization"].split("/")[2])
            token = base64.b64encode(b"AWS:secret").decode()
            body = json.dumps({"authorizationData": [{"authorizationToken": token}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield regions
        server.shutdown()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an app with two stacks, one of which builds an image."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "app.py").write_text(APP)
    (folder / "image").mkdir()
    (folder / "image" / "Dockerfile").write_text(DOCKERFILE)
    return folder


@pytest.fixture(scope="module")
def prod(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app of prod, synthesized with a registry in another Region."""
    folder = tmp_path_factory.mktemp("prod")
    app = shlex.join([sys.executable, str(shop / "app.py")])
    line = assembly.parse(["--app", app, "-c", "env=prod", "deploy", "--context", f"registry={OTHER}"])
    with assembly.synthesized(line, cdk.environ()) as made:
        shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


def names(prod: Path, *arguments: str) -> list[str]:
    return sorted(stack.name for stack in assembly.selected(prod, assembly.parse(arguments)))


@pytest.mark.parametrize(
    "arguments",
    [
        ["deploy", "-c", "env=prod", PROD],
        ["-c", "env=prod", "deploy", PROD],
        ["-vv", "--context=env=prod", "--profile", "deploy", "--no-color", "deploy", PROD],
        ["--requireApproval", "never", "--ci", "true", "deploy", "-t", "owner=me", PROD, "-f"],
        ["--strict", "deploy", "--outputs-file", "out.json", "--", PROD],
    ],
)
def test_command_line_is_parsed_as_by_the_cdk(arguments: list[str]):
    line = assembly.parse(arguments)
    assert (line.command, line.patterns) == ("deploy", (PROD,))


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        (["shop-prod-*"], 2),
        (["--all"], 2),
        ([PROD, "--all"], 2),
        ([], 2),
        (["*search"], 1),
        ([PROD], 1),
        (["shop-{dev,prod}-search"], 2),
        (["shop-dev-*"], 0),
    ],
)
def test_stacks_are_selected_by_patterns(prod: Path, patterns: list[str], count: int):
    assert len(names(prod, "deploy", *patterns)) == count
    assert len(names(prod, "-c", "env=prod", "deploy", *patterns)) == count


@pytest.mark.parametrize("before", [[], ["--all"], ["--ci", "--require-approval", "never"]])
def test_deployment_logs_docker_in_to_the_base_images_registry(
    before: list[str], prod: Path, docker: Path, ecr: list[str], monkeypatch: pytest.MonkeyPatch
):
    # given an ECR endpoint, and an app whose base image is in a registry of another Region
    monkeypatch.setattr(cdk, "ELSEWHERE", {"AWS_ENDPOINT_URL"})

    # when
    cdk.prepare([*before, "-a", str(prod), "deploy", "shop-prod-*"], {"CDK_DOCKER": str(docker)})

    # then the password comes from that Region and is passed by standard input only
    assert ecr == ["eu-central-1"]
    called = (docker.parent / "called").read_text()
    assert called == f"login --username AWS --password-stdin {OTHER}\nsecret"


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["synth"], {}),
        (["deploy", "--all"], {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}),
        (["deploy", "shop-prod-page"], {}),
        (["destroy", "deploy"], {}),
    ],
    ids=["no deployment", "another cloud", "no such image", "another command"],
)
def test_no_login_is_made_when_none_is_needed(
    arguments: list[str], environment: dict[str, str], prod: Path, docker: Path, ecr: list[str]
):
    cdk.prepare([*arguments, "-a", str(prod)], environment | {"CDK_DOCKER": str(docker)})
    assert not ecr
    assert not (docker.parent / "called").exists()


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, [DEFAULT]), ({"REGISTRY": OTHER}, [OTHER]), ({"REGISTRY": "mirror.example.com/aws"}, [])],
)
def test_registry_is_the_dockerfiles_unless_a_build_argument_overrides(
    given: dict[str, str], found: list[str], shop: Path
):
    dockerfile = shop / "image" / "Dockerfile"
    assert list(registries.needed([assembly.Stack(PROD, {}, ((dockerfile, given),))])) == found


def test_failed_login_is_reported_in_one_sentence_with_the_registry(prod: Path, docker: Path, ecr: list[str]):
    (docker.parent / "refuse").touch()
    with pytest.raises(registries.RegistryError) as caught:
        registries.log_in(assembly.selected(prod, assembly.parse(["deploy"])), {"CDK_DOCKER": str(docker)})
    assert str(caught.value) == (
        f"Could not log in to {OTHER}, which has a base image of {PROD}:"
        f" {docker} login: Cannot connect to the Docker daemon"
    )


def test_missing_docker_is_reported(prod: Path, ecr: list[str]):
    with pytest.raises(
        registries.RegistryError, match=r"nowhere cannot be started \(No such file or directory\)"
    ):
        registries.log_in(
            assembly.selected(prod, assembly.parse(["deploy"])), {"CDK_DOCKER": str(prod / "nowhere")}
        )


def test_make_deploy_without_credentials_ends_before_the_cdk_starts(prod: Path, tmp_path: Path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "tooling.cdk", "--app", str(prod), "deploy", PROD],
        cwd=envs.ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"Could not log in to {OTHER}, which has a base image of {PROD}:"
        " ECR did not return a password: Unable to locate credentials"
    )


def test_invalid_setting_ends_the_deployment_with_the_cdks_error():
    line = assembly.parse(["-c", "env=nowhere", "deploy", "--all"])
    with pytest.raises(assembly.SynthesisError, match="nowhere"), assembly.synthesized(line, cdk.environ()):
        pass
