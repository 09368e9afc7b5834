"""A cloud for Lambda functions that run in the test's process, and pictures to upload."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from PIL import Image

from local.cloud import LocalCloud
from personalization.aws import environment
from tests.support.personalization.world import (
    BUCKET,
    CLIENTS,
    DOCKERFILE,
    ENDPOINT,
    IMAGE,
    INDEXES,
    KILLER,
    NUMBERS,
    PACES,
    TABLES,
    TOPIC,
    TOPIC_ARN,
    TRAIN,
    World,
    create_table,
)


@pytest.fixture(scope="session")
def personalization_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A cloud with a bucket, a topic, and a training image whose jobs end immediately."""
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as running:
        context = tmp_path_factory.mktemp("image")
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "train.py").write_text(TRAIN)
        env = running.env()
        keys = {
            "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        }
        where = {"endpoint_url": running.endpoint_url, "region_name": running.region}
        person = functools.partial(boto3.client, **keys, **where)
        person("ecr").create_repository(repositoryName="personalization-tests")
        for command in (["build", "--tag", IMAGE, "."], ["push", IMAGE]):
            program = [env["CDK_DOCKER"], *command]
            subprocess.run(program, check=True, cwd=context, env=os.environ | env, capture_output=True)
        running.configure(**PACES)
        place = {"LocationConstraint": running.region}
        person("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        person("sns").create_topic(Name=TOPIC)
        yield running


@pytest.fixture
def make_world(
    personalization_cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., World]]:
    """Return a function that makes a `World`: the Lambda functions, with new tables. At the end, running jobs
    are stopped."""
    made: list[World] = []
    settings = {"DATA_BUCKET": BUCKET, "ENDPOINT_NAME": "endpoint", "TOPIC_ARN": TOPIC_ARN}
    for name, value in (personalization_cloud.env() | settings).items():
        monkeypatch.setenv(name, value)
    for name in (
        "JOB_PREFIX",
        "JOB_SETTINGS",
        "PACE",
        "LIMITS",
        *(f"{name.upper()}_TABLE" for name in TABLES),
    ):
        monkeypatch.setenv(name, "")  # `World` sets these variables

    @functools.cache
    def killing_client(service: str) -> Any:
        if service == "sagemaker-runtime":
            return ENDPOINT
        known = CLIENTS.get((personalization_cloud.port, service)) or original(service)
        CLIENTS[personalization_cloud.port, service] = known
        known.meta.events.register("after-call", KILLER, unique_id="killer")
        return known

    original = environment.client.__wrapped__
    monkeypatch.setattr(environment, "client", killing_client)

    def make(**settings: Any) -> World:
        KILLER.after = 0
        world = World(f"w{next(NUMBERS)}", **settings)
        for name, keys in TABLES.items():
            create_table(f"{world.name}-{name}", keys, INDEXES.get(name))
        made.append(world)
        return world.enter()

    yield make
    KILLER.after = 0
    for world in made:
        for name in world.enter().jobs():
            environment.backend().training.stop(name)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five noise pictures of different sizes, the first as large as a camera's photograph."""
    folder, paths = tmp_path_factory.mktemp("pictures"), []
    for place, size in enumerate([(4000, 3000), (700, 700), (640, 480), (480, 640), (500, 500)]):
        noise = Image.effect_noise((size[0] // 20, size[1] // 20), 90).resize(size)
        path = folder / f"photo-{place}.jpg"
        Image.merge("RGB", (noise, noise.rotate(180), noise)).save(path, quality=90)
        paths.append(path)
    return paths
