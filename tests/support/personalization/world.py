"""The Lambda functions of `personalization` on a running cloud, with helpers to check their effects.

The handlers run in the test's process, so that a test can kill them at any write. Tables, bucket, training
jobs and topic are in the cloud.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import fastjsonschema
from PIL import Image

from personalization.aws import environment
from personalization.aws.bucket import S3Bucket
from personalization.aws.store import request_item
from personalization.aws.tables import marshal, unmarshal
from personalization.core.http import DOCUMENT as DOCUMENT_FILE
from personalization.core.model import Request, Status
from personalization.handlers import api, collect, dispatch, notify, prepare, purge, sweep
from tests.support.personalization.settings import texts
from tests.support.waiting import until

IMAGE = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/personalization-tests:1"
BUCKET, TOPIC = "personalization-data", "personalization-states"
TOPIC_ARN = f"arn:aws:sns:eu-west-1:000000000000:{TOPIC}"
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
    print(f"[{task['request']}] step=100/400 train:loss=0.500000 train:steps_per_second=2.500", flush=True)
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
    "training_spot_instances": 1000,
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
CONTEXT: Any = SimpleNamespace(
    function_name="function",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:eu-west-1:000000000000:function:function",
    aws_request_id="request",
    get_remaining_time_in_millis=lambda: 16_000,
)
DOCUMENT = json.loads(DOCUMENT_FILE.read_text())
USER = "6f1c3a52-0d1e-4c7e-9c35-1b0f5a7d2e11"


class Endpoint:
    """A multi-model endpoint behind the interface of SageMaker's runtime client. It answers at once."""

    asked: list[tuple[str, dict[str, Any]]]
    fail: Exception | None

    def invoke_endpoint(self, TargetModel: str, Body: bytes, **_: Any) -> dict[str, Any]:
        request = json.loads(Body)
        self.asked.append((TargetModel, request))
        if self.fail:
            raise self.fail
        pictures = [base64.b64encode(png(64)).decode()] * request["count"]
        return {"Body": io.BytesIO(json.dumps({"images": pictures}).encode())}


ENDPOINT = Endpoint()


class Killed(BaseException):
    """The function was killed. `except Exception` does not catch it."""


class Killer:
    """Kills the function after AWS has executed write number `after`, before the response arrives."""

    def __init__(self) -> None:
        self.after, self.seen = 0, []

    def __call__(self, http_response: Any, model: Any, **_: Any) -> None:
        if http_response.status_code < 300 and model.name in WRITES:
            self.seen.append(model.name)
            if len(self.seen) == self.after:
                raise Killed(f"after {model.name}")


KILLER = Killer()


@dataclass
class World:
    """The tables of one deployment, with one user."""

    name: str
    mode: str = "done"
    models: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    pace: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)

    def enter(self) -> World:
        """Configure the handlers in this process for this deployment."""
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
        limits |= {"pictures_per_minute": 100_000}
        told = texts(job=job, pace=pace, limits=limits | self.limits)
        os.environ |= told | {"JOB_PREFIX": self.name}
        ENDPOINT.asked, ENDPOINT.fail = [], None
        for cached in (*environment.CACHED, api.service):
            cached.cache_clear()
        return self

    # Actions of the user

    def ask(self, route: str, body: Any = None, user: str = USER, **path: str) -> tuple[int, dict[str, Any]]:
        answer = self.send(route, body, user, pathParameters=path)
        return answer["statusCode"], json.loads(answer["body"])

    def send(self, route: str, body: Any = None, user: str = USER, **event: Any) -> dict[str, Any]:
        """Return the handler's response to API Gateway, after a check that it matches the API's OpenAPI
        document."""
        event = {
            "routeKey": route,
            "body": json.dumps(body),
            "requestContext": {"authorizer": {"jwt": {"claims": {"sub": user}}}},
        } | event
        answer = api.handler(event, CONTEXT)
        method, _, path = route.partition(" ")
        promised = DOCUMENT["paths"][path][method.lower()]["responses"][str(answer["statusCode"])]
        if "$ref" in promised:
            promised = DOCUMENT["components"]["responses"][promised["$ref"].rpartition("/")[2]]
        shape = {
            "components": DOCUMENT["components"],
            "allOf": [promised["content"]["application/json"]["schema"]],
        }
        fastjsonschema.validate(shape, json.loads(answer["body"]), use_default=False)
        return answer

    def upload(self, pictures: int = 1) -> str:
        """Create a model, and store its pictures under the keys of the upload forms in the response; return
        the model's id."""
        picture = png()
        images = [{"type": "image/png", "bytes": len(picture)}] * pictures
        body = {"name": "Mimi", "subject": "cat", "images": images}
        status, created = self.ask("POST /api/models", body)
        assert status == 201, created
        for number in range(pictures):
            key = f"uploads/{USER}/{created['model']}/{number:02}"
            assert created["uploads"][number]["fields"]["key"] == key
            environment.client("s3").put_object(Bucket=BUCKET, Key=key, Body=picture, ContentType="image/png")
        self.models.append(created["model"])
        return created["model"]

    def start(self, pictures: int = 1) -> str:
        model = self.upload(pictures)
        status, answer = self.ask("POST /api/models/{model}/start", model=model)
        assert (status, answer) == (202, {"model": model})
        return model

    def shown(self, model: str) -> dict[str, Any]:
        return self.ask("GET /api/models/{model}", model=model)[1]

    # Handlers of events

    def dispatch(self) -> None:
        dispatch.handler({}, CONTEXT)

    def train(self) -> None:
        """Dispatch, and wait until the jobs have ended."""
        self.dispatch()
        until(self.ended, "the training")

    def collect(self) -> None:
        for name in self.jobs():
            collect.handler({"detail": {"TrainingJobName": name}}, CONTEXT)

    def prepare(self) -> None:
        for name in self.jobs():
            for model in self.models:
                key = f"jobs/{name}/checkpoints/{model}/result.json"
                prepare.handler({"Records": [{"s3": {"object": {"key": key}}}]}, CONTEXT)

    def stream(self, handler: Callable[[dict[str, Any], Any], Any]) -> None:
        """Deliver the last change of each request as the stream would. Check that no record fails."""
        records = [changed(number, row) for number, row in enumerate(self.rows("requests"))]
        if records:  # Lambda sends no empty batch
            assert handler({"Records": records}, CONTEXT) == {"batchItemFailures": []}

    def notify(self) -> None:
        self.stream(notify.handler)

    def purge(self) -> None:
        self.stream(purge.handler)

    def sweep(self) -> None:
        sweep.handler({}, CONTEXT)

    # State

    def rows(self, table: str) -> list[dict[str, Any]]:
        found = environment.client("dynamodb").scan(TableName=f"{self.name}-{table}", ConsistentRead=True)
        return [unmarshal(item) for item in found["Items"]]

    def statuses(self) -> list[str]:
        return [row["status"] for row in self.rows("requests")]

    def jobs(self) -> list[str]:
        """Return the training jobs in SageMaker, oldest first."""
        asked = {"NameContains": f"{self.name}-", "SortBy": "CreationTime", "SortOrder": "Ascending"}
        found = environment.client("sagemaker").list_training_jobs(**asked)["TrainingJobSummaries"]
        return [job["TrainingJobName"] for job in found]

    def ended(self) -> bool:
        sagemaker = environment.client("sagemaker")
        described = [sagemaker.describe_training_job(TrainingJobName=name) for name in self.jobs()]
        return all(job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") for job in described)

    def objects(self, prefix: str = "") -> list[str]:
        mine = [*self.models, self.name]
        found = S3Bucket(environment.client("s3"), BUCKET).list(prefix)
        return [key for key in found if any(name in key for name in mine)]


def changed(number: int, row: Mapping[str, Any], before: str = "-") -> dict[str, Any]:
    """Return a stream record of a row's change from the status `before`."""
    images = {"NewImage": marshal(row), "OldImage": marshal({"status": before})}
    return {"dynamodb": images | {"SequenceNumber": str(number)}}


def record(name: str, number: int, status: Status, before: str = "-") -> dict[str, Any]:
    """Return a stream record of a request that reaches `status`. The request need not be in the table."""
    request = Request(
        request=name, user="ada", model=name, subject="cat", images=1, steps=0, estimate=0.0,
        status=status, attempt=1, last_attempt=1, queued_at=0.0, updated=0.0,
    )  # fmt: skip
    return changed(number, request_item(request), before)


CLIENTS: dict[tuple[int, str], Any] = {}
"""Clients, reused because creating one takes longer than a test."""
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
    environment.client("dynamodb").create_table(**asked)


def png(side: int = 64) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(content, "PNG")
    return content.getvalue()


def killed(world: World, step: Callable[[World], Any], after: int) -> bool:
    """Run `step` and kill it after `after` writes. Return False if it completed with fewer writes."""
    KILLER.after, KILLER.seen = after, []
    try:
        step(world)
    except Killed:
        return True
    finally:
        KILLER.after = 0
    return False


def finish(worlds: list[World]) -> None:
    """Run only the sweeper, until all requests of each world have ended."""
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
    """Check that every model is READY and was trained in exactly this number of jobs."""
    world.enter()
    assert len(world.rows("models")) == len(world.models)
    for row in world.rows("models"):
        assert (row["status"], row["previews"]) == ("READY", 1)
        archive = S3Bucket(environment.client("s3"), BUCKET).get(f"adapters/{row['target']}")
        assert archive is not None
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


def ready(world: World) -> str:
    """Create a model that is READY without a training; return its id."""
    model = world.start()
    world.dispatch()
    [row] = [row for row in world.rows("requests") if row["request"] == model]
    folder, weights = f"jobs/{row['job']}/checkpoints/{model}/", model.encode()
    files = {"adapter/adapter.json": b"{}", "adapter/adapter_model.safetensors": weights}
    told = {k: {"bytes": len(v), "sha256": hashlib.sha256(v).hexdigest()} for k, v in files.items()}
    result = json.dumps({"version": 1, "status": "done", "files": told, "metrics": {}}).encode()
    for name, content in {**files, "previews/0.png": png(), "result.json": result}.items():
        environment.client("s3").put_object(Bucket=BUCKET, Key=folder + name, Body=content)
    prepare.handler({"Records": [{"s3": {"object": {"key": f"{folder}result.json"}}}]}, CONTEXT)
    assert world.shown(model)["status"] == "READY"
    return model
