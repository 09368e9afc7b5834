"""The Lambdas of `personalization` on a running cloud: killed after each of their writes, called twice, late
and never. Each world has tables and jobs of its own and is judged when the sweeper has done its work."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from PIL import Image

from local.cloud import LocalCloud
from personalization import api, aws, collector, dispatcher, notifier, preparer, purger, sweeper
from personalization.http import operations
from personalization.model import Status
from personalization.tables import marshal, unmarshal

IMAGE = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/personalization-tests:1"
BUCKET, TOPIC = "personalization-data", "personalization-states"
ROLE = "arn:aws:iam::000000000000:role/personalization-training"
DOCKERFILE = """
FROM public.ecr.aws/docker/library/python:3.11-slim
COPY train.py /opt/program/train.py
ENTRYPOINT ["python", "/opt/program/train.py"]
"""
TRAIN = '''
"""What personalization_finetune promises, without the training."""
import hashlib, json, os, pathlib, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
mode = json.loads((base / "input/config/hyperparameters.json").read_text())["mode"]
resources = json.loads((base / "input/config/resourceconfig.json").read_text())
host = sorted(resources["hosts"]).index(resources["current_host"])
for task in json.loads((base / "input/data/tasks/tasks.json").read_text())["tasks"]:
    if task["host"] != host:
        continue
    for image in task["images"]:
        assert (base / "input/data/images" / image).stat().st_size > 0, image
    folder = base / "checkpoints" / task["request"]
    (folder / "state").mkdir(parents=True, exist_ok=True)
    resumed = (folder / "state/step").exists()
    (folder / "state/step").write_text("100")
    progress = {"stage": "training", "step": 100, "steps": 400, "loss": 0.5}
    (folder / "progress.json").write_text(json.dumps(progress))
    while mode == "wait":
        time.sleep(0.1)
    if mode == "crash" or (mode == "interrupted" and not resumed):
        sys.exit("interrupted")
    files = {"adapter/adapter.json": b"{}", "adapter/adapter_model.safetensors": task["request"].encode()}
    result = {"version": 1, "status": "done", "reason": "", "seconds": 40}
    result |= {"metrics": {"steps": 400}, "files": {}}
    if mode == "bad":
        result |= {"status": "failed", "reason": "The second picture shows nothing."}
        files = {}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        result["files"][name] = {"bytes": len(content), "sha256": digest}
    (folder / "previews").mkdir(exist_ok=True)
    (folder / "previews/0.png").write_bytes(b"a picture")
    (folder / "result.json").write_text(json.dumps(result))
'''
PACES = {
    "training_checkpoint_interval": 0.2,
    "training_stop_grace": 2.0,
    "create_training_job_burst": 1000,
    "create_training_job_per_second": 1000.0,
    "training_instances": 1000,
}
TABLES = {
    "users": ("user",),
    "models": ("user", "model"),
    "requests": ("request",),
    "jobs": ("job",),
    "generations": ("user", "generation"),
}
INDEXES = {"requests": "queue", "jobs": "open"}
WRITES = {
    *("PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"),
    *("PutObject", "CopyObject", "DeleteObjects"),
    *("CreateTrainingJob", "StopTrainingJob", "Publish"),
}
CONTEXT = SimpleNamespace(
    function_name="function",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:eu-west-1:000000000000:function:function",
    aws_request_id="request",
    get_remaining_time_in_millis=lambda: 16_000,
)
USER = "6f1c3a52-0d1e-4c7e-9c35-1b0f5a7d2e11"


class Killed(BaseException):
    """The Lambda is gone: no `except Exception` sees it."""


class Killer:
    """Kills after the k-th write that AWS carried out, when the answer is on its way."""

    def __init__(self) -> None:
        self.after, self.seen = 0, []

    def __call__(self, http_response: Any, model: Any, **_: Any) -> None:
        if http_response.status_code < 300 and model.name in WRITES:
            self.seen.append(model.name)
            if len(self.seen) == self.after:
                raise Killed(f"after {model.name}")


KILLER = Killer()
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A cloud with the image of a training that takes no time, and this process turned to it."""
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as running:
        context = tmp_path_factory.mktemp("image")
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "train.py").write_text(TRAIN)
        before = dict(os.environ)
        os.environ.update(running.env())
        boto3.client("ecr").create_repository(repositoryName="personalization-tests")
        for command in (["build", "--tag", IMAGE, "."], ["push", IMAGE]):
            program = [os.environ["CDK_DOCKER"], *command]
            subprocess.run(program, check=True, cwd=context, capture_output=True)
        running.configure(**PACES)
        place = {"LocationConstraint": "eu-west-1"}
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        os.environ |= {
            "DATA_BUCKET": BUCKET,
            "ENDPOINT_NAME": "endpoint",
            "POWERTOOLS_METRICS_NAMESPACE": "t",
        }
        os.environ["TOPIC_ARN"] = boto3.client("sns").create_topic(Name=TOPIC)["TopicArn"]
        aws.client.cache_clear()
        for service in ("dynamodb", "s3", "sagemaker", "sns"):
            aws.client(service).meta.events.register("after-call", KILLER)
        yield running
        aws.client.cache_clear()
        os.environ.clear()
        os.environ.update(before)


@dataclass
class World:
    """One deployment's tables, and one user in it."""

    name: str
    mode: str = "done"
    models: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    pace: dict[str, Any] = field(default_factory=dict)

    def enter(self) -> World:
        """From now on the handlers of this process are this deployment's."""
        for table in TABLES:
            os.environ[f"{table.upper()}_TABLE"] = f"{self.name}-{table}"
        job = {
            "image": IMAGE,
            "role": ROLE,
            "instance_type": "ml.m5.large",
            "volume_gb": 1,
            "max_runtime": 120,
        }
        job |= {"hyperparameters": {"mode": self.mode, "steps": 400}, "spot": False} | self.settings
        pace = {"rate": 1000, "burst": 1000, "stale_seconds": 1, "tombstone_seconds": 2} | self.pace
        limits = {"images_min": 1, "models": 100, "active": 100, "requests_per_minute": 100_000}
        os.environ |= {"JOB_PREFIX": self.name, "JOB_SETTINGS": json.dumps(job), "PACE": json.dumps(pace)}
        os.environ["LIMITS"] = json.dumps(limits)
        for cached in (aws.backend, aws.accounts, api.service):
            cached.cache_clear()
        return self

    # What its user does

    def ask(self, route: str, body: Any = None, user: str = USER, **path: str) -> tuple[int, dict[str, Any]]:
        assert route in operations()
        event = {
            "routeKey": route,
            "pathParameters": path,
            "body": json.dumps(body),
            "requestContext": {"authorizer": {"jwt": {"claims": {"sub": user}}}},
        }
        answer = api.handler(event, CONTEXT)
        return answer["statusCode"], json.loads(answer["body"])

    def upload(self, pictures: int = 1) -> str:
        """Create a model and put its pictures where the answer says, as a browser would."""
        picture = png()
        images = [{"type": "image/png", "bytes": len(picture)}] * pictures
        body = {"name": "Mimi", "subject": "cat", "images": images}
        status, created = self.ask("POST /api/models", body)
        assert status == 201, created
        for number in range(pictures):
            key = f"uploads/{USER}/{created['model']}/{number:02}"
            assert created["uploads"][number]["fields"]["key"] == key
            aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=picture, ContentType="image/png")
        self.models.append(created["model"])
        return created["model"]

    def start(self, pictures: int = 1) -> str:
        model = self.upload(pictures)
        status, answer = self.ask("POST /api/models/{model}/start", model=model)
        assert (status, answer) == (202, {"model": model})
        return model

    def shown(self, model: str) -> dict[str, Any]:
        return self.ask("GET /api/models/{model}", model=model)[1]

    # What the events cause

    def dispatch(self) -> None:
        dispatcher.handler({}, CONTEXT)

    def train(self) -> None:
        """Dispatch, and wait for the jobs' end."""
        self.dispatch()
        until(self.ended, "the training")

    def collect(self) -> None:
        for name in self.jobs():
            collector.handler({"detail": {"TrainingJobName": name}}, CONTEXT)

    def prepare(self) -> None:
        for name in self.jobs():
            for model in self.models:
                key = f"jobs/{name}/checkpoints/{model}/result.json"
                preparer.handler({"Records": [{"s3": {"object": {"key": key}}}]}, CONTEXT)

    def stream(self, handler: Callable[[dict[str, Any], Any], None]) -> None:
        """Each request's last change, as the stream would tell of it."""
        records = [
            {"dynamodb": {"NewImage": marshal(row), "OldImage": marshal({"status": "-"})}}
            for row in self.rows("requests")
        ]
        handler({"Records": records}, CONTEXT)

    def notify(self) -> None:
        self.stream(notifier.handler)

    def purge(self) -> None:
        self.stream(purger.handler)

    def sweep(self) -> None:
        sweeper.handler({}, CONTEXT)

    # What is there

    def rows(self, table: str) -> list[dict[str, Any]]:
        found = aws.client("dynamodb").scan(TableName=f"{self.name}-{table}", ConsistentRead=True)
        return [unmarshal(item) for item in found["Items"]]

    def statuses(self) -> list[str]:
        return [row["status"] for row in self.rows("requests")]

    def jobs(self) -> list[str]:
        """The training jobs that SageMaker knows, oldest first."""
        asked = {"NameContains": f"{self.name}-", "SortBy": "CreationTime", "SortOrder": "Ascending"}
        found = aws.client("sagemaker").list_training_jobs(**asked)["TrainingJobSummaries"]
        return [job["TrainingJobName"] for job in found]

    def ended(self) -> bool:
        sagemaker = aws.client("sagemaker")
        described = [sagemaker.describe_training_job(TrainingJobName=name) for name in self.jobs()]
        return all(job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") for job in described)

    def objects(self, prefix: str = "") -> list[str]:
        mine = [*self.models, self.name]
        found = aws.Bucket(aws.client("s3"), BUCKET).list(prefix)
        return [key for key in found if any(name in key for name in mine)]


@pytest.fixture
def make_world(cloud: LocalCloud, request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    """Worlds of this test, each on its own tables; jobs that still run at the end are stopped."""
    made: list[World] = []

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
            aws.backend().training.stop(name)


NUMBERS = iter(range(1000, 10_000))


def create_table(name: str, keys: tuple[str, ...], index: str | None) -> None:
    attributes = {*keys} | ({"status", "updated"} if index else set())
    kinds = ("HASH", "RANGE")
    asked: dict[str, Any] = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [
            {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, kinds, strict=False)
        ],
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in sorted(attributes)],
    }
    if index:
        schema = [
            {"AttributeName": "status", "KeyType": "HASH"},
            {"AttributeName": "updated", "KeyType": "RANGE"},
        ]
        projection = {"ProjectionType": "ALL"}
        asked["GlobalSecondaryIndexes"] = [
            {"IndexName": index, "KeySchema": schema, "Projection": projection}
        ]
    aws.client("dynamodb").create_table(**asked)


def png(side: int = 64) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(content, "PNG")
    return content.getvalue()


def killed(world: World, step: Callable[[World], Any], after: int) -> bool:
    """Run `step` and kill it after so many writes; False when it came to its end before."""
    KILLER.after, KILLER.seen = after, []
    try:
        step(world)
    except Killed:
        return True
    finally:
        KILLER.after = 0
    return False


def until(condition: Callable[[], Any], what: str, meanwhile: Callable[[], Any] = lambda: None) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        meanwhile()
        time.sleep(0.05)


def finish(worlds: list[World]) -> None:
    """Only the sweeper runs from now on, for each world until all of it has come to an end."""
    left = list(worlds)
    deadline = time.monotonic() + 120
    while left:
        assert time.monotonic() < deadline, {world.name: world.rows("requests") for world in left}
        for world in list(left):
            world.enter().sweep()
            rows = [*world.rows("requests"), *world.rows("jobs")]
            if {row["status"] for row in rows if "status" in row} <= {"READY", "FAILED", "ENDED"}:
                left.remove(world)
        time.sleep(0.1)


def check_ready(world: World, jobs: int = 1) -> None:
    """Every model is READY, and was trained in so many jobs and no more."""
    world.enter()
    assert len(world.rows("models")) == len(world.models)
    for row in world.rows("models"):
        assert (row["status"], row["previews"]) == ("READY", 1)
        archive = aws.client("s3").get_object(Bucket=BUCKET, Key=f"adapters/{row['target']}")["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            assert tar.getnames() == ["adapter.json", "adapter_model.safetensors"]
            weights = tar.extractfile("adapter_model.safetensors")
            assert weights is not None
            assert weights.read() == row["model"].encode()
    assert set(world.statuses()) == {"READY"}
    assert [user["active"] for user in world.rows("users")] == [0]
    assert len(world.jobs()) == jobs
    launched = [request for job in world.rows("jobs") for request in job.get("requests", [])]
    assert sorted(launched) == sorted(world.models * jobs)


# A day without mishap


def test_a_model_goes_from_its_pictures_to_the_archive_that_the_endpoint_loads(make_world):
    world = make_world()
    model = world.start(pictures=2)
    assert world.shown(model)["status"] == "QUEUED"
    world.dispatch()
    assert world.shown(model)["status"] == "LAUNCHED"
    until(world.ended, "the training")
    world.collect()
    shown = world.shown(model)
    assert (shown["status"], shown["progress"]["done"], len(shown["previews"])) == ("READY", 1, 1)
    check_ready(world)
    measured = next(row for row in world.rows("jobs") if row["job"] == "#durations")
    assert measured["seconds_per_step"] == pytest.approx(0.1), "40 s for 400 steps, remembered for estimates"


def test_while_it_trains_its_user_sees_how_far_it_is(make_world):
    world = make_world(mode="wait")
    model = world.start()
    world.dispatch()
    until(lambda: any("progress.json" in key for key in world.objects("jobs/")), "a first checkpoint")
    world.collect()
    shown = world.shown(model)
    assert shown["status"] == "TRAINING"
    assert shown["progress"] == {"stage": "training", "step": 100, "steps": 400, "done": 0.25}


def test_requests_that_wait_together_are_trained_together(make_world):
    world = make_world(settings={"tasks_per_host": 2, "hosts_max": 2})
    for _ in range(5):
        world.start()
    world.dispatch()
    finish([world])
    assert sorted(len(row["requests"]) for row in world.rows("jobs") if "requests" in row) == [1, 4]
    assert set(world.statuses()) == {"READY"}


# Killed after each write

PREPARED = ["TransactWriteItems", "PutObject", "CopyObject", "TransactWriteItems", "UpdateItem"]
"""PREPARING; the archive, the first picture; READY; what a step took."""
STEPS: dict[str, tuple[str, list[Callable[[World], None]], Callable[[World], None], list[str]]] = {
    # name: how the training ends; what goes well before; what is killed; what it writes
    "dispatcher": (
        "done",
        [],
        World.dispatch,
        ["UpdateItem", "TransactWriteItems", "PutObject", "PutObject", "CreateTrainingJob", "UpdateItem"],
    ),
    "collector, at the end": (
        "done",
        [World.train],
        World.collect,
        [*PREPARED, "UpdateItem"],
    ),
    "collector, of an interruption": (
        "interrupted",
        [World.train],
        World.collect,
        ["TransactWriteItems", "UpdateItem"],
    ),
    "dispatcher, after an interruption": (
        "interrupted",
        [World.train, World.collect],
        World.dispatch,
        [
            *("UpdateItem", "TransactWriteItems", "CopyObject", "PutObject", "PutObject"),
            *("CreateTrainingJob", "UpdateItem"),
        ],
    ),
    "preparer": ("done", [World.train], World.prepare, PREPARED),
    "notifier": ("done", [World.train, World.collect], World.notify, ["Publish", "UpdateItem"]),
    "sweeper": ("done", [World.train, lambda world: time.sleep(1)], World.sweep, [*PREPARED, "UpdateItem"]),
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_write_nothing_is_lost_and_nothing_is_done_twice(make_world, step):
    mode, before, work, writes = STEPS[step]
    worlds = [make_world(mode=mode) for _ in range(len(writes) + 1)]
    for world in worlds:
        world.enter().start()
    for earlier in before:  # in all worlds at once
        for world in worlds:
            if earlier is World.train:
                world.enter().dispatch()
        for world in worlds:
            earlier(world.enter())
    for after, world in enumerate(worlds, 1):
        assert killed(world.enter(), work, after) == (after <= len(writes))
        assert KILLER.seen == writes[:after]
    finish(worlds)
    for world in worlds:
        check_ready(world, jobs=2 if mode == "interrupted" else 1)


def test_the_start_is_killed_after_any_write_and_repeated(make_world):
    worlds: list[World] = []
    while True:
        world = make_world()
        worlds.append(world)
        model = world.upload()

        def start(world: World, model: str = model) -> Any:
            return world.ask("POST /api/models/{model}/start", model=model)

        alive = not killed(world, start, after=len(worlds))
        assert start(world) == (202, {"model": model}) == start(world)
        if alive:
            break
    assert len(worlds) == 3, "the user's pace, then the request with its model and its count"
    finish(worlds)
    for world in worlds:
        check_ready(world)


def test_events_that_come_twice_late_and_out_of_order_change_nothing(make_world):
    world = make_world()
    world.start()
    world.prepare()
    world.notify()
    world.dispatch()
    world.dispatch()
    world.prepare()
    until(world.ended, "the training")
    for _ in range(2):
        world.prepare()
        world.collect()
        world.notify()
        world.dispatch()
    finish([world])
    check_ready(world)


def test_with_no_event_at_all_the_sweeper_does_everything(make_world):
    world = make_world()
    world.start()
    world.start()
    finish([world])
    assert set(world.statuses()) == {"READY"}
    until(lambda: all("notified" in row for row in world.rows("requests")), "the notices", world.sweep)


# What goes wrong in training


def test_a_task_that_fails_tells_its_user_why(make_world):
    world = make_world(mode="bad")
    model = world.start()
    world.train()
    world.collect()
    shown = world.shown(model)
    assert (shown["status"], shown["reason"]) == ("FAILED", "The second picture shows nothing.")
    assert world.rows("users")[0]["active"] == 0


def test_after_the_last_attempt_the_user_is_told_what_to_do_and_may_start_again(make_world):
    world = make_world(mode="crash", pace={"max_attempts": 2})
    model = world.start()
    finish([world])
    shown = world.shown(model)
    assert shown["status"] == "FAILED"
    assert "start the model again" in shown["reason"]
    assert len(world.jobs()) == 2
    # The instances behave again
    world.mode = "interrupted"
    world.enter()
    assert world.ask("POST /api/models/{model}/start", model=model)[0] == 202
    assert world.shown(model)["reason"] == ""
    finish([world])
    assert world.statuses() == ["READY"], "it went on from where the last job had been"
    assert len(world.jobs()) == 3
    assert world.rows("users")[0]["active"] == 0


def test_sagemaker_that_takes_no_more_gets_the_same_job_later(make_world, cloud):
    world = make_world()
    world.start()
    world.start()
    cloud.configure(training_instances=0)
    world.dispatch()
    [job] = [row for row in world.rows("jobs") if "requests" in row]
    assert (job["status"], job["attempt"], world.jobs()) == ("CLAIMED", 2, [])
    cloud.configure(training_instances=1000)
    finish([world])
    assert world.jobs() == [job["job"]]
    check_ready(world)


def test_a_job_that_sagemaker_refuses_for_good_fails_its_requests_and_no_one_elses(make_world):
    world = make_world(settings={"image": IMAGE.replace("tests:1", "tests:gone")}, pace={"max_attempts": 2})
    model = world.start()
    finish([world])
    assert world.shown(model)["status"] == "FAILED"
    assert world.jobs() == []


# Deletion


@pytest.mark.parametrize("state", ["CREATED", "QUEUED", "LAUNCHED", "TRAINING", "READY", "FAILED"])
def test_a_deleted_model_is_gone_at_once_and_its_data_soon(make_world, state):
    world = make_world(mode={"TRAINING": "wait", "FAILED": "bad"}.get(state, "done"))
    model = world.upload()
    if state != "CREATED":
        assert world.ask("POST /api/models/{model}/start", model=model)[0] == 202
    if state in ("LAUNCHED", "TRAINING", "READY", "FAILED"):
        world.dispatch()
    if state == "TRAINING":
        until(lambda: any("progress.json" in key for key in world.objects("jobs/")), "a first checkpoint")
        world.collect()
    if state in ("READY", "FAILED"):
        until(world.ended, "the training")
        world.collect()
    assert world.shown(model)["status"] == state
    assert world.ask("DELETE /api/models/{model}", model=model) == (
        202,
        {"model": model, "status": "DELETED"},
    )
    assert world.ask("GET /api/models")[1] == {"models": []}
    assert world.ask("GET /api/models/{model}", model=model)[0] == 404
    assert world.ask("DELETE /api/models/{model}", model=model)[0] == 404
    world.purge()
    world.purge()
    if state in ("TRAINING", "READY", "FAILED", "LAUNCHED"):
        until(world.ended, "the job's end", world.collect)
    until(lambda: not world.rows("requests"), "the last trace's removal", world.sweep)
    assert world.rows("models") == []
    assert [key for key in world.objects() if not key.startswith("jobs/")] == []
    assert [key for key in world.objects("jobs/") if "/checkpoints/" in key] == []
    [user] = world.rows("users")
    assert (user["models"], user.get("active", 0)) == (0, 0)


def test_killed_after_any_write_a_deletion_still_removes_everything(make_world):
    writes = ["DeleteObjects", "DeleteItem", "UpdateItem"]
    worlds = [make_world() for _ in range(len(writes) + 1)]
    for world in worlds:
        world.enter().start()
        world.dispatch()
    for after, world in enumerate(worlds, 1):
        world.enter().train()
        world.collect()
        world.ask("DELETE /api/models/{model}", model=world.models[0])
        assert killed(world, World.purge, after) == (after <= len(writes))
        assert KILLER.seen == writes[:after]
    for world in worlds:
        world.enter()
        until(lambda world=world: not world.rows("requests"), "the end", world.sweep)
        assert world.rows("models") == []
        assert [key for key in world.objects() if model_data(key)] == []


def model_data(key: str) -> bool:
    return "/checkpoints/" in key or not key.startswith("jobs/")


def test_a_deletion_in_a_shared_job_leaves_the_others_alone(make_world):
    world = make_world(settings={"tasks_per_host": 2, "hosts_max": 1})
    gone, kept = world.start(), world.start()
    world.dispatch()
    world.ask("DELETE /api/models/{model}", model=gone)
    world.purge()
    until(world.ended, "the training")
    until(lambda: len(world.rows("requests")) == 1, "the removal", world.sweep)
    assert world.shown(kept)["status"] == "READY"
    assert [key for key in world.objects() if gone in key and model_data(key)] == []
    [job] = world.jobs()
    described = aws.client("sagemaker").describe_training_job(TrainingJobName=job)
    assert described["TrainingJobStatus"] == "Completed"


def test_an_upload_that_comes_after_the_deletion_is_removed_too(make_world):
    world = make_world()
    model = world.upload()
    world.ask("DELETE /api/models/{model}", model=model)
    world.purge()
    late = f"uploads/{USER}/{model}/00"
    aws.client("s3").put_object(Bucket=BUCKET, Key=late, Body=png(), ContentType="image/png")
    until(lambda: not world.rows("requests"), "the last pass", world.sweep)
    assert world.objects("uploads/") == []


def test_a_model_deleted_while_its_archive_is_written_leaves_none(make_world, monkeypatch):
    world = make_world()
    model = world.start()
    world.train()
    put = aws.Bucket.put

    def put_and_delete(bucket: aws.Bucket, key: str, body: bytes, content_type: str = "") -> None:
        put(bucket, key, body, content_type)
        if key.startswith("adapters/"):
            monkeypatch.undo()
            world.ask("DELETE /api/models/{model}", model=model)
            world.purge()

    monkeypatch.setattr(aws.Bucket, "put", put_and_delete)
    world.prepare()
    assert world.statuses() == [Status.DELETED]
    assert world.objects("adapters/") == []
    assert world.objects("previews/") == []


# The pace


def test_jobs_are_created_at_the_pace_of_the_settings_by_however_many_dispatchers(make_world):
    world = make_world(pace={"rate": 0.001, "burst": 2}, settings={"tasks_per_host": 1, "hosts_max": 1})
    for _ in range(4):
        world.start()
    for _ in range(3):
        world.dispatch()
    assert len(world.jobs()) == 2
    assert sorted(world.statuses()) == ["LAUNCHED", "LAUNCHED", "QUEUED", "QUEUED"]
