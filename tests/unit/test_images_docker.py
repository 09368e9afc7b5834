"""The program that the CDK calls instead of docker, with the ECR of MiniStack, an AWS emulator."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import boto3
import pytest

from local.images import launcher, store
from local.images.store import resolve
from tooling import envs

REGISTRY = "000000000000.dkr.ecr.eu-west-1.amazonaws.com"
DOCKERFILE = """FROM public.ecr.aws/docker/library/python:3.11-slim
COPY code /opt/program/code
ENTRYPOINT ["python", "/opt/program/code/main.py"]
"""


@pytest.fixture(scope="module")
def python():
    """The Python of the environment "cloud"."""
    return envs.environment("cloud")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory, python):
    """A separate MiniStack on a free port, which ends after the tests of this module."""
    log = tmp_path_factory.mktemp("ministack") / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "STATE_DIR": str(log.parent),
        "S3_DATA_DIR": str(log.parent / "s3"),
    }
    with log.open("w") as stream:
        server = subprocess.Popen(
            [python, "-m", "ministack.app"],
            env=environment,
            cwd=log.parent,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/_ministack/health", timeout=5).close()  # noqa: S310
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def home(tmp_path_factory, python):
    """A separate image store for this module, with the project's installation of uv."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "envs").mkdir()
    (folder / "envs" / "uv").symlink_to(envs.uv().parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROUNDPLAN_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def cloud(home, endpoint, python):
    """The environment variables of the CDK's command line, without those of the user's shell."""
    return {
        "PATH": os.environ["PATH"],
        "CDK_DOCKER": str(launcher(home / "a folder", python)),
        "GROUNDPLAN_HOME": str(home),
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


@pytest.fixture(scope="module")
def ecr(endpoint):
    client = boto3.client(
        "ecr",
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_repository(repositoryName="assets", imageTagMutability="IMMUTABLE")
    return client


@pytest.fixture
def asset(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text(f"import sys\nprint(sys.argv[1:], {tmp_path.name!r})\n")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


@pytest.fixture
def docker(cloud, asset):
    def call(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [cloud["CDK_DOCKER"], *arguments],
            cwd=asset,
            env=cloud | environment,
            input=given,
            capture_output=True,
            text=True,
        )

    return call


def manifest_of(ecr, tag):
    return ecr.batch_get_image(repositoryName="assets", imageIds=[{"imageTag": tag}])["images"][0][
        "imageManifest"
    ]


def test_commands_of_the_cdk_push_an_image_that_runs(docker, ecr, asset):
    # Given the commands that the CDK runs, in its order
    assert docker("login", "--username", "AWS", "--password-stdin", REGISTRY, given="token").returncode == 0
    assert docker("inspect", "cdkasset-1").returncode == 1
    address = f"{REGISTRY}/assets:1"
    for command in (
        ("build", "--tag", "cdkasset-1", "--platform", "linux/amd64", "."),
        ("inspect", "cdkasset-1"),
        ("tag", "cdkasset-1", address),
        ("push", address),
    ):
        done = docker(*command)
        assert done.returncode == 0, done.stderr

    # Then ECR's manifest identifies the image by the digest of its configuration
    manifest = manifest_of(ecr, "1")
    image = resolve(manifest)
    assert json.loads(manifest)["config"]["digest"] == f"sha256:{image.id}"
    command, environment, folder = image.launch(["train"])
    printed = subprocess.check_output(command, env=environment, cwd=folder, text=True)
    assert printed == f"['train'] {asset.name}\n"


def test_push_repeats_the_same_image_but_refuses_other_content(docker, ecr, asset):
    address = f"{REGISTRY}/assets:2"
    docker("build", "--tag", address, ".")
    assert docker("push", address).returncode == 0
    assert docker("push", address).returncode == 0

    (asset / "code" / "main.py").write_text("# other")
    docker("build", "--tag", address, ".")
    refused = docker("push", address)

    assert refused.returncode == 1
    assert "already exists" in refused.stderr
    assert resolve(manifest_of(ecr, "2")) != store.find(address)


def test_one_image_may_have_several_addresses(docker, ecr):
    docker("build", "--tag", f"{REGISTRY}/assets:3", "--tag", f"{REGISTRY}/assets:4", ".")
    for tag in ("3", "4"):
        assert docker("push", f"{REGISTRY}/assets:{tag}").returncode == 0
    assert resolve(manifest_of(ecr, "3")) == resolve(manifest_of(ecr, "4"))


def test_build_takes_the_options_of_an_image_asset(docker, asset):
    (asset / "other").write_text(
        "ARG TAG\nFROM python:${TAG} AS one\nLABEL which=one\nFROM one\nLABEL which=two\n"
    )
    done = docker(
        *("build", "--build-arg", "TAG=3.11-slim", "--tag", "options", "--target", "one", "--file", "other"),
        *("--platform", "linux/arm64", "."),
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(docker("inspect", "options").stdout)[0]
    assert shown["Config"]["Labels"] == {"which": "one"}
    assert shown["Architecture"] == "arm64"


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ([], "application/vnd.oci.image.manifest.v1+json"),
        (["--output=type=image"], "application/vnd.oci.image.manifest.v1+json"),
        (["--output=type=docker"], "application/vnd.oci.image.manifest.v1+json"),
        (
            ["--output=type=docker,oci-mediatypes=false"],
            "application/vnd.docker.distribution.manifest.v2+json",
        ),
        (["-o", "type=image,oci-mediatypes=false"], "application/vnd.docker.distribution.manifest.v2+json"),
    ],
)
def test_image_is_pushed_with_the_manifest_of_its_output(docker, ecr, asset, options, kind):
    address = f"{REGISTRY}/assets:{asset.name}"
    assert docker("build", *options, "--tag", address, ".").returncode == 0
    assert docker("push", address).returncode == 0
    [image] = ecr.batch_get_image(repositoryName="assets", imageIds=[{"imageTag": asset.name}])["images"]
    assert image["imageManifestMediaType"] == json.loads(image["imageManifest"])["mediaType"] == kind
    assert resolve(image["imageManifest"]) == store.find(address)


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        (["run", "x"], 2, "invalid choice: 'run'"),
        (["build", "--squash", "."], 2, "unrecognized arguments: --squash"),
        (
            ["build", "--platform", "windows/amd64", "."],
            1,
            "must be linux/amd64 or linux/arm64, got windows/amd64",
        ),
        (["build", "--build-arg", "TOKEN", "."], 1, "--build-arg must be NAME=VALUE, got TOKEN"),
        (["build", "--output=type=tar", "."], 1, "only type=docker and type=image are"),
        (["build", "nowhere"], 1, "nowhere is not a folder"),
        (["build", "--file", "code/main.py", "."], 1, "code/main.py:1: IMPORT sys"),
        (["tag", "nowhere", "x"], 1, "there is no image nowhere"),
        (["push", f"{REGISTRY}/assets:never"], 1, "there is no image"),
        (["login", "--username", "AWS", "--password-stdin", REGISTRY], 1, "no password"),
    ],
)
def test_unsupported_command_is_refused_with_the_reason(docker, command, code, reason):
    done = docker(*command)
    assert (done.returncode, done.stdout) == (code, "")
    assert reason in done.stderr


def test_push_is_refused_except_to_the_local_clouds_repositories(docker, ecr):
    docker("build", "--tag", "docker.io/library/mine:1", "--tag", f"{REGISTRY}/missing:1", ".")
    wrong = docker("push", "docker.io/library/mine:1")
    missing = docker("push", f"{REGISTRY}/missing:1")
    aws = docker("push", f"{REGISTRY}/missing:1", AWS_ENDPOINT_URL="")
    elsewhere = docker("push", f"{REGISTRY}/missing:1", AWS_ENDPOINT_URL="https://ecr.example.com")

    assert "is not ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG" in wrong.stderr
    assert "RepositoryNotFoundException" in missing.stderr
    assert "can be pushed only to the local cloud" in aws.stderr
    assert "can be pushed only to the local cloud" in elsewhere.stderr
    assert {each.returncode for each in (wrong, missing, aws, elsewhere)} == {1}


@pytest.mark.parametrize(
    "manifest",
    [
        "{}",
        "no json",
        "[]",
        '{"config": {"digest": "sha256:../../etc"}}',
        '{"config": {"digest": "sha256:%s"}}' % ("0" * 64),
    ],
)
def test_manifest_of_an_unknown_image_is_refused(home, manifest):
    with pytest.raises(LookupError, match="this machine"):
        resolve(manifest)


def test_images_are_listed(docker):
    docker("build", "--tag", "listed:1", ".")
    assert "public.ecr.aws/docker/library/python:3.11-slim  listed:1\n" in docker("list").stdout


def test_program_is_one_executable_path_and_is_written_once(tmp_path):
    first = launcher(tmp_path, Path("/some where/python"))
    written = first.stat().st_mtime_ns
    assert launcher(tmp_path, Path("/some where/python")) == first
    assert first.stat().st_mtime_ns == written
    assert os.access(first, os.X_OK)
    assert list(tmp_path.iterdir()) == [first]
