"""Send generated requests to the API of `personalization` and check each answer against the OpenAPI document.

    python -m benchmarks.personalization.api --requests 10000 --json out/requests.json

The handler runs in child processes. Each process has a separate local cloud, with tables and a bucket.
Schemathesis generates a quarter of the requests from the document, valid and invalid ones. The other requests
have hostile texts, headers, ids and encodings. Only the endpoint is a stub, which returns a picture for every
prompt. Exits with 1 if an answer has a 5xx status or does not conform to the document.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import jsonschema_rs
import schemathesis
from hypothesis import strategies
from schemathesis import GenerationMode

from benchmarks.personalization.hostile import Hostile, hostile
from settings import load
from settings.personalization import Personalization
from stacks.personalization import variables
from tooling import envs
from tooling.table import print_table

DOCUMENT = json.loads((envs.ROOT / "runtime" / "personalization" / "openapi.json").read_text())
USER = "6f1c3a52-0d1e-4c7e-9c35-1b0f5a7d2e11"
BUCKET = "personalization-requests"
TABLES = {
    "users": ("user",),
    "models": ("user", "model"),
    "requests": ("request",),
    "jobs": ("job",),
    "generations": ("user", "generation"),
}
CHOSEN = load({}).of(Personalization)
"""Default settings of the deployment."""
WIDEST = {
    "models": 1_000_000,
    "active": 1_000_000,
    "requests_per_minute": 1_000_000_000,
    "pictures_per_minute": 1_000_000_000,
    "images_min": 1,
    "images_max": 100,
    "image_bytes": 104_857_600,
    "prompt_chars": 2_000,
}
"""Limits as wide as the OpenAPI document's. So a request that the document allows is rejected only because of
the status of a model or generation."""
SLOW_AND_LARGE = (
    hypothesis.HealthCheck.too_slow,
    hypothesis.HealthCheck.filter_too_much,
    hypothesis.HealthCheck.data_too_large,
    hypothesis.HealthCheck.large_base_example,
)
"""Health checks that are disabled, because Hypothesis would stop a run on their failure."""
CONTEXT = SimpleNamespace(
    function_name="api",
    memory_limit_in_mb=1024,
    invoked_function_arn="arn:aws:lambda:eu-west-1:000000000000:function:api",
    aws_request_id="request",
)
STATUSES = ("CREATED", "READY", "FAILED")
REUSED = "was used for another request"
"""Part of the error for a reused idempotency key, the only error that depends on earlier requests and not on
the document."""
KEPT = 3
"""Number of models in each of `STATUSES` that requests may name."""


class Painter:
    """A stub of SageMaker's runtime, whose endpoint returns a picture for every prompt immediately."""

    def invoke_endpoint(self, Body: bytes, **_: Any) -> dict[str, Any]:
        picture = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
        return {"Body": io.BytesIO(json.dumps({"images": [picture] * json.loads(Body)["count"]}).encode())}


@dataclass
class Stage:
    """The API's handler and its users' data: models in several statuses, and generations."""

    handler: Callable[[dict[str, Any], Any], dict[str, Any]]
    accounts: Any
    bucket: Any
    models: dict[str, str] = field(default_factory=dict)
    """Status at creation of each model, by id."""
    generations: list[str] = field(default_factory=list)

    def fill(self) -> None:
        """Create models until there are `KEPT` in each of `STATUSES`; requests may have deleted some."""
        from personalization.aws.tables import write
        from personalization.core import keys

        content = _png()
        images = [{"type": "image/png", "bytes": len(content)}]
        missing = Counter[str](dict.fromkeys(STATUSES, KEPT)) - Counter(self.models.values())
        for status in missing.elements():
            model = self.accounts.create(USER, "Mimi", "cat", images, time.time())["model"]
            self.bucket.put(keys.upload(USER, model, 0), content, "image/png")
            there, place = "attribute_exists(#model)", {"user": USER, "model": model}
            write(self.accounts.client, self.accounts.models.update(place, {"status": status}, there))
            self.models[model] = status

    def seen(self, name: str, status: int, body: dict[str, Any]) -> None:
        """Update the known models and generations from an answer."""
        if name == "deleteModel" and self.models.pop(body["model"], None):
            self.fill()
        if name == "createGeneration" and len(self.generations) < KEPT:
            self.generations.append(body["generation"])

    def ids(self, parameter: str) -> list[str]:
        return self.generations if parameter == "generation" else list(self.models)


def _png() -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(content, "PNG")
    return content.getvalue()


@dataclass
class Judge:
    """Checks answers against the document. `wrong` has a sentence for each answer that does not conform."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    """Number of answers by operation and status."""
    _validators: dict[str, Any] = field(default_factory=dict)

    def validator(self, schema: dict[str, Any]) -> Any:
        key = json.dumps(schema)
        if key not in self._validators:
            whole = {**schema, "components": DOCUMENT["components"]}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole)
        return self._validators[key]

    def allows(self, schema: dict[str, Any], value: Any) -> bool:
        return self.validator(schema).is_valid(value)

    def hear(self, route: str, sent: str, answer: dict[str, Any], expected: set[int] | None) -> None:
        """Count and check an answer. `expected`: allowed statuses, if fewer than in the document."""
        status, method, path = answer["statusCode"], *route.partition(" ")[::2]
        self.statuses[status] += 1
        if not self.statuses.total() % 500:
            print(f"  {self.statuses.total()} requests", file=sys.stderr, flush=True)
        operation = DOCUMENT["paths"].get(path, {}).get(method.lower())
        self.answered[f"{operation['operationId'] if operation else 'none'} {status}"] += 1
        where = f"{route} {sent[:300]} got {status} {answer['body'][:200]}"
        if status >= 500:
            self.wrong.append(f"{where}: the server failed")
        elif operation is None:
            if status not in (401, 404):
                self.wrong.append(f"{where}: the route does not exist, so the status must be 401 or 404")
        elif str(status) not in operation["responses"]:
            self.wrong.append(f"{where}: the document does not have this status")
        elif expected is not None and status not in expected and REUSED not in answer["body"]:
            self.wrong.append(f"{where}: the status must be one of {sorted(expected)}")
        elif (schema := _response(operation, status)) and not self.allows(schema, json.loads(answer["body"])):
            self.wrong.append(f"{where}: the body does not match the document's schema")


def _response(operation: dict[str, Any], status: int) -> dict[str, Any] | None:
    found = operation["responses"][str(status)]
    if "$ref" in found:
        found = DOCUMENT["components"]["responses"][found["$ref"].rpartition("/")[2]]
    return found["content"]["application/json"]["schema"] if "content" in found else None


def send(stage: Stage, judge: Judge, route: str, event: dict[str, Any], expected: set[int] | None) -> None:
    """Send one request in the format of API Gateway."""
    # Each new model belongs to a different user, so that no user's list of models grows during the run
    user = f"user-{judge.statuses.total()}" if route == "POST /api/models" else USER
    claims = {"authorizer": {"jwt": {"claims": {"sub": user}}}}
    whole = {"version": "2.0", "routeKey": route, "requestContext": claims} | event
    with contextlib.redirect_stdout(io.StringIO()):
        answer = stage.handler(whole, CONTEXT)
    judge.hear(route, json.dumps(event), answer, expected)
    operation = DOCUMENT["paths"].get(route.partition(" ")[2], {}).get(route.partition(" ")[0].lower())
    if operation and answer["statusCode"] < 300:
        stage.seen(operation["operationId"], answer["statusCode"], json.loads(answer["body"]))


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield f"{method.upper()} {path}", path, operation


# Generated from the document


def generated(stage: Stage, judge: Judge, count: int, seed: int) -> None:
    """Send about `count` requests that Schemathesis generates, valid and invalid ones of every operation."""
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    found = list(operations())
    # Operations with a body get more requests, because a body can be invalid in more ways
    shares = {route: 6 if "requestBody" in operation else 1 for route, _, operation in found}
    for route, path, operation in found:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            method = route.partition(" ")[0]
            most = max(1, count * shares[route] // (2 * sum(shares.values())))
            strategy = schema[path][method].as_strategy(generation_mode=mode)
            _run(stage, judge, route, operation, strategy, most, seed)


def _run(
    stage: Stage, judge: Judge, route: str, operation: dict[str, Any], strategy: Any, most: int, seed: int
) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=SLOW_AND_LARGE,
    )
    @hypothesis.given(strategies.data())
    def one(data: Any) -> None:
        case = data.draw(strategy)
        path = {name: str(value) for name, value in (case.path_parameters or {}).items()}
        for name in path:
            if known := stage.ids(name):
                path[name] = data.draw(strategies.sampled_from([path[name], *known]))
        event: dict[str, Any] = {
            "pathParameters": path,
            "queryStringParameters": {name: _text(value) for name, value in (case.query or {}).items()},
            "headers": {name: _text(value) for name, value in (case.headers or {}).items()},
        }
        expected: set[int] | None = None
        if "requestBody" in operation:
            absent = type(case.body).__name__ == "NotSet"
            event["headers"]["Content-Type"] = case.media_type or "application/json"
            if isinstance(case.body, bytes):  # not a text
                event |= {"body": base64.b64encode(case.body).decode(), "isBase64Encoded": True}
                expected = {400, 422}
            else:
                event["body"] = None if absent else json.dumps(case.body, ensure_ascii=False)
                expected = _expected(judge, operation, event, None if absent else case.body, absent)
        send(stage, judge, route, event, expected)

    one()


def _text(value: Any) -> str:
    """Return a parameter as text for a URL or a header."""
    return value if isinstance(value, str) else json.dumps(value)


def _expected(
    judge: Judge, operation: dict[str, Any], event: dict[str, Any], body: Any, absent: bool
) -> set[int] | None:
    """Return the statuses that the document allows for a request with a body."""
    if event["headers"]["Content-Type"].partition(";")[0].strip().lower() != "application/json":
        return {415}
    if absent:
        return {400}
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return {400}
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    given = {name.lower(): value for name, value in event["headers"].items()}
    query = event["queryStringParameters"]
    parameters = all(
        judge.allows(each["schema"], value)
        for each in operation.get("parameters", [])
        for value in [(given if each["in"] == "header" else query).get(each["name"].lower())]
        if value is not None
    )
    return {201, 404, 409} if parameters and judge.allows(schema, body) else {422}


# Hostile


def thrown(stage: Stage, judge: Judge, count: int, seed: int) -> None:
    """Send `count` hostile requests, which no client of the API sends."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    routes = [(route, "requestBody" in operation) for route, _, operation in operations()]
    for _ in range(count):
        made: Hostile = hostile(chance, routes, list(stage.models), stage.generations)
        send(stage, judge, made.route, made.event, made.allowed)


# The run


def run(stage: Stage, count: int, seed: int) -> Judge:
    """Send about `count` requests, a quarter of them generated from the document; return the results."""
    judge = Judge()
    stage.fill()
    generated(stage, judge, count // 4, seed)
    thrown(stage, judge, max(0, count - judge.statuses.total()), seed)
    return judge


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    """Start a separate local cloud and yield the API on it."""
    from local.cloud import LocalCloud

    with tempfile.TemporaryDirectory() as folder, LocalCloud(Path(folder)) as cloud:
        job = variables.job_settings(CHOSEN, image="image", role="role", tags={})
        limits, pace = variables.limits(CHOSEN) | WIDEST, variables.pace(CHOSEN)
        os.environ |= cloud.env() | {f"{name.upper()}_TABLE": name for name in TABLES}
        os.environ |= {"DATA_BUCKET": BUCKET, "ENDPOINT_NAME": "endpoint", "JOB_PREFIX": "requests"}
        told = {"JOB_SETTINGS": job, "LIMITS": limits, "PACE": pace}
        os.environ |= {name: json.dumps(value) for name, value in told.items()}
        from personalization.aws import environment
        from personalization.aws.endpoint import SageMakerEndpoint
        from personalization.handlers import api

        dynamodb = environment.client("dynamodb")
        for name, keys in TABLES.items():
            dynamodb.create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[
                    {"AttributeName": key, "KeyType": kind}
                    for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
                ],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            )
        place = {"LocationConstraint": cloud.region}
        environment.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        painter: Any = Painter()
        service = replace(api.service(), endpoint=SageMakerEndpoint(painter, "endpoint"))
        api.service = lambda: service  # pyright: ignore[reportAttributeAccessIssue]
        yield Stage(api.handler, environment.accounts(), service.bucket)


def share(count: int, seed: int) -> Judge:
    """Send a part of the requests, in this process and a separate local cloud."""
    os.environ["POWERTOOLS_LOG_LEVEL"] = "CRITICAL"
    with staged() as stage:
        judge = run(stage, count, seed)
    return Judge(judge.statuses, judge.wrong, judge.answered)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.personalization.api", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    started, judge = time.monotonic(), Judge()
    most = -(-options.requests // options.processes)
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        seeds = range(options.seed, options.seed + options.processes)
        for part in pool.map(share, [most] * options.processes, seeds):
            judge.statuses += part.statuses
            judge.answered += part.answered
            judge.wrong += part.wrong
    failures = sum(count for status, count in judge.statuses.items() if status >= 500)
    print(f"{judge.statuses.total()} requests in {time.monotonic() - started:.0f} s, {failures} x 5xx")
    print_table(sorted(judge.statuses.items()))
    print_table(sorted(judge.answered.items()))
    for sentence in judge.wrong[:20]:
        print(sentence, file=sys.stderr)
    if options.json:
        figures = {"requests": judge.statuses.total(), "server_errors": failures, "wrong": len(judge.wrong)}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures | {"statuses": judge.statuses, "seed": options.seed}))
    return int(bool(judge.wrong))


if __name__ == "__main__":
    sys.exit(main())
