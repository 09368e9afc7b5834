"""The API of `personalization` on real tables and a real bucket: valid and invalid requests, and limits."""

from __future__ import annotations

import base64
import io
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from PIL import Image

from personalization.aws import environment
from personalization.aws.bucket import S3Bucket
from personalization.core import http, service
from personalization.core.images import HEADER_BYTES
from personalization.handlers import api
from tests.support.personalization.world import (
    BUCKET,
    ENDPOINT,
    KILLER,
    USER,
    Endpoint,
    World,
    check_ready,
    finish,
    killed,
    png,
    ready,
    until,
)

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

# The API: valid requests


GENERATE = "POST /api/models/{model}/generations"


def test_generated_pictures_are_stored_and_listed(make_world):
    world = make_world()
    model = ready(world)
    status, made = world.ask(GENERATE, {"prompt": "sks cat on the moon", "seed": 7, "count": 2}, model=model)
    assert (status, made["status"], made["seed"], len(made["images"])) == (201, "DONE", 7, 2)
    request = {"prompt": "sks cat on the moon", "seed": 7, "count": 2}
    assert ENDPOINT.asked == [(f"{USER}/{model}.tar.gz", request)]
    for address in made["images"]:
        with urllib.request.urlopen(address) as picture:  # noqa: S310 - a local URL
            assert Image.open(picture).size == (64, 64)
    [folder] = {key.rpartition("/")[0] for key in world.objects("generations/")}
    kept = environment.client("s3").get_object(Bucket=BUCKET, Key=f"{folder}/input.json")["Body"].read()
    assert json.loads(kept) == request
    found = world.ask("GET /api/generations/{generation}", generation=made["generation"])[1]
    listed = world.ask("GET /api/models/{model}/generations", model=model)[1]["generations"]
    shared = ("generation", "model", "prompt", "seed", "created", "status")
    assert {field: found[field] for field in shared} == {field: made[field] for field in shared}
    assert [item["generation"] for item in listed] == [made["generation"]]


def test_generation_without_a_seed_returns_a_random_one(make_world):
    world = make_world()
    model = ready(world)
    made = [world.ask(GENERATE, {"prompt": "a"}, model=model)[1] for _ in range(2)]
    assert made[0]["seed"] != made[1]["seed"]
    assert [asked["seed"] for _, asked in ENDPOINT.asked] == [one["seed"] for one in made]


def test_generations_are_listed_in_pages_newest_first(make_world, monkeypatch):
    monkeypatch.setattr(service, "PAGE", 3)
    world = make_world()
    model, other = ready(world), ready(world)
    made = []
    for number in range(8):
        made.append(world.ask(GENERATE, {"prompt": str(number)}, model=model)[1]["generation"])
        world.ask(GENERATE, {"prompt": "other"}, model=other)
    pages, before = [], {}
    while True:
        page = json.loads(
            world.send(
                "GET /api/models/{model}/generations",
                pathParameters={"model": model},
                queryStringParameters=before,
            )["body"]
        )
        pages.append([item["generation"] for item in page["generations"]])
        if "next" not in page:
            break
        before = {"before": page["next"]}
    assert [len(page) for page in pages] == [3, 3, 2]
    assert [name for page in pages for name in page] == made[::-1]


def test_repeated_request_makes_its_pictures_once(make_world):
    world = make_world()
    model = ready(world)

    def send(prompt: str, key: str = "k1") -> tuple[int, dict[str, Any]]:
        place, headers = {"model": model}, {"Idempotency-Key": key}
        answer = world.send(GENERATE, {"prompt": prompt}, pathParameters=place, headers=headers)
        return answer["statusCode"], json.loads(answer["body"])

    first, second = send("a cat"), send("a cat")
    assert first[1]["generation"] == second[1]["generation"]
    assert (first[0], second[0], len(ENDPOINT.asked)) == (201, 201, 1)
    assert send("a dog")[1]["error"]["field"] == "Idempotency-Key"
    assert send("a cat", "k2")[1]["generation"] != first[1]["generation"]


def test_generation_killed_after_any_write_is_completed_by_its_key(make_world, monkeypatch):
    world = make_world()
    model = ready(world)
    writes = ["UpdateItem", "UpdateItem", "TransactWriteItems", "PutObject", "PutObject", "PutObject"]
    writes += ["TransactWriteItems"]
    for after in range(1, len(writes) + 2):
        key = {"Idempotency-Key": f"key-{after}"}

        def send(world: World, key: dict[str, str] = key) -> dict[str, Any]:
            body = {"prompt": "a cat", "count": 2}
            return world.send(GENERATE, body, pathParameters={"model": model}, headers=key)

        assert killed(world, send, after) == (after <= len(writes))
        assert KILLER.seen == writes[:after]
        late, known = time.time() + 61, api.service()
        with monkeypatch.context() as later:
            moved = replace(known, clock=SimpleNamespace(now=lambda late=late: late))
            later.setattr(api, "service", lambda moved=moved: moved)
            shown = world.ask("GET /api/models/{model}/generations", model=model)[1]["generations"]
            for generation in shown:
                assert (generation["status"], len(generation["images"])) in (("DONE", 2), ("FAILED", 0))
            answer = send(world)
            assert (answer["statusCode"], len(json.loads(answer["body"])["images"])) == (201, 2)
        made = [row for row in world.rows("generations") if "made" not in row]
        assert len(made) == after, "each key must make one generation"
        assert {row["status"] for row in made} == {"DONE"}


@pytest.mark.parametrize(
    ("error", "status", "field"),
    [
        (("ModelError", 400, '{"error": "prompt: at most 77 tokens"}'), 422, "prompt"),
        (("ModelError", 507, ""), 503, ""),
        (("ModelError", 500, "Traceback: /opt/ml/secret"), 503, ""),
        (("ThrottlingException", 0, ""), 503, ""),
    ],
)
def test_generation_that_fails_at_the_endpoint_returns_its_status(make_world, error, status, field):
    world = make_world()
    model = ready(world)
    code, original, message = error
    answer: Any = {"Error": {"Code": code, "Message": message}, "OriginalMessage": message}
    ENDPOINT.fail = ClientError(answer | {"OriginalStatusCode": original}, "InvokeEndpoint")
    failed = world.send(GENERATE, {"prompt": "a"}, pathParameters={"model": model})
    assert (failed["statusCode"], json.loads(failed["body"])["error"]["field"]) == (status, field)
    assert ("Retry-After" in failed["headers"]) == (status == 503)
    assert "secret" not in failed["body"]
    [row] = world.rows("generations")
    assert row["status"] == "FAILED"


def test_model_deleted_during_a_generation_leaves_no_pictures(make_world, monkeypatch):
    world = make_world()
    model = ready(world)
    invoke = Endpoint.invoke_endpoint

    def delete_meanwhile(endpoint: Endpoint, **asked: Any) -> dict[str, Any]:
        world.ask("DELETE /api/models/{model}", model=model)
        world.purge()
        return invoke(endpoint, **asked)

    monkeypatch.setattr(Endpoint, "invoke_endpoint", delete_meanwhile)
    assert world.ask(GENERATE, {"prompt": "a"}, model=model)[0] == 404
    assert world.objects("generations/") == []


# The API: invalid requests


def test_resource_of_another_user_is_not_found(make_world):
    world, thief = make_world(), "00000000-0000-4000-8000-000000000000"
    model = ready(world)
    made = world.ask(GENERATE, {"prompt": "a"}, model=model)[1]["generation"]
    world.ask("POST /api/models", {"name": "x", "subject": "dog", "images": IMAGES}, user=thief)
    until(world.ended, "the end of the training")
    before = [world.rows(table) for table in ("models", "requests", "generations")], world.objects()
    never, attempts = "0" * 26, 0
    forged = [
        f"{USER}/{model}",
        f"../{USER}/{model}",
        model.upper(),
        f"{model}.tar.gz",
        "",
        "%2e%2e",
        "é" * 26,
    ]
    for route, operation in http.operations().items():
        if "{" not in route:
            continue
        name = "generation" if "{generation}" in route else "model"
        answers = set()
        for value in [made if name == "generation" else model, never, *forged]:
            body = {"prompt": "a"} if operation.check_body else None
            answer = world.send(route, body, user=thief, pathParameters={name: value})
            answers.add((answer["statusCode"], answer["body"], json.dumps(answer["headers"])))
            attempts += 1
        [(status, body, _)] = answers
        assert status == 404, route
        assert USER not in body
        assert model not in body
    assert attempts == 6 * 9
    assert ENDPOINT.asked[1:] == [], "no model of another user must be invoked"
    assert before == ([world.rows(table) for table in ("models", "requests", "generations")], world.objects())
    [own] = world.ask("GET /api/models", user=thief)[1]["models"]
    assert own["model"] != model


IMAGES = [{"type": "image/png", "bytes": 900}]


def test_caller_cannot_choose_the_target_model(make_world):
    world = make_world()
    model = ready(world)
    for field in ("TargetModel", "target", "model", "user"):
        status, answer = world.ask(GENERATE, {"prompt": "a", field: "x/y.tar.gz"}, model=model)
        assert (status, answer["error"]["field"]) == (422, field)
    headers = {"X-Amzn-SageMaker-Target-Model": "x/y.tar.gz"}
    place = {"pathParameters": {"model": model}, "headers": headers, "queryStringParameters": {"target": "x"}}
    assert world.send(GENERATE, {"prompt": "a"}, **place)["statusCode"] == 201
    assert [target for target, _ in ENDPOINT.asked] == [f"{USER}/{model}.tar.gz"]


@pytest.mark.parametrize("state", ["CREATED", "QUEUED", "FAILED"])
def test_model_that_is_not_ready_makes_no_pictures(make_world, state):
    world = make_world(mode="bad")
    model = world.upload() if state == "CREATED" else world.start()
    if state == "FAILED":
        world.train()
        world.collect()
    status, answer = world.ask(GENERATE, {"prompt": "a"}, model=model)
    assert (status, answer["error"]["code"]) == (409, "not_ready")
    assert state in answer["error"]["message"]
    assert (ENDPOINT.asked, world.rows("generations")) == ([], [])


@pytest.mark.parametrize(
    ("content", "content_type", "told"),
    [
        (None, "image/png", "has not been uploaded"),
        (b"x" * 900, "image/png", "is not a picture of the type image/png"),
        (b"x" * 901, "image/png", "is 901 bytes of image/png, must be the announced 900 bytes of image/png"),
        (b"x" * 900, "image/jpeg", "must be the announced 900 bytes of image/png"),
    ],
)
def test_start_with_missing_pictures_names_them_and_trains_nothing(make_world, content, content_type, told):
    world = make_world()
    good, picture = png(), {"type": "image/png", "bytes": 900}
    images = [{"type": "image/png", "bytes": len(good)}, picture]
    model = world.ask("POST /api/models", {"name": "x", "subject": "cat", "images": images})[1]["model"]
    s3, folder = environment.client("s3"), f"uploads/{USER}/{model}"
    s3.put_object(Bucket=BUCKET, Key=f"{folder}/00", Body=good, ContentType="image/png")
    if content:
        s3.put_object(Bucket=BUCKET, Key=f"{folder}/01", Body=content, ContentType=content_type)
    status, answer = world.ask("POST /api/models/{model}/start", model=model)
    assert (status, answer["error"]["field"]) == (422, "images[1]")
    assert told in answer["error"]["message"]
    assert (world.rows("requests"), world.shown(model)["status"]) == ([], "CREATED")


def test_upload_accepts_the_announced_file_only(make_world):
    """AWS's S3 and the local cloud's S3 check the uploaded form: the file's size and type, and the key."""
    world = make_world()
    picture = png()
    images = [{"type": "image/png", "bytes": len(picture)}]
    made = world.ask("POST /api/models", {"name": "x", "subject": "cat", "images": images})[1]
    [upload] = made["uploads"]
    policy = json.loads(base64.b64decode(upload["fields"]["policy"]))["conditions"]
    key = f"uploads/{USER}/{made['model']}/00"
    assert {"key": key} in policy
    assert {"Content-Type": "image/png"} in policy
    assert ["content-length-range", len(picture), len(picture)] in policy
    assert form(upload, picture) in (200, 201, 204)
    assert form(upload, picture + b"x") in (400, 403)
    assert form(upload, picture, key=f"uploads/{USER}/other/00") == 403
    assert form(upload, picture, **{"Content-Type": "text/html"}) == 403


def form(upload: dict[str, Any], content: bytes, **changed: str) -> int:
    """Send a multipart form as a browser does; return the status."""
    lines = []
    for name, value in {**upload["fields"], **changed}.items():
        lines += [b"--x", f'Content-Disposition: form-data; name="{name}"'.encode(), b"", value.encode()]
    lines += [
        b"--x",
        b'Content-Disposition: form-data; name="file"; filename="f"',
        b"",
        content,
        b"--x--",
        b"",
    ]
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(upload["url"], b"\r\n".join(lines), headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


# Limits


def test_number_of_models_is_limited_for_concurrent_creations(make_world):
    world = make_world(limits={"models": 3})
    body = {"name": "x", "subject": "cat", "images": IMAGES}
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: world.ask("POST /api/models", body)[0], range(8)))
    assert sorted(statuses) == [201] * 3 + [429] * 5
    [first, *_] = world.ask("GET /api/models")[1]["models"]
    world.ask("DELETE /api/models/{model}", model=first["model"])
    assert world.ask("POST /api/models", body)[0] == 201, (
        "a user who has deleted a model must be allowed to create one"
    )
    refused = world.send("POST /api/models", body)
    assert json.loads(refused["body"])["error"]["field"] == "models"
    assert int(refused["headers"]["Retry-After"]) >= 1


def test_number_of_active_trainings_is_limited_until_one_ends(make_world):
    world = make_world(limits={"active": 1})
    first, second = world.start(), world.upload()
    status, answer = world.ask("POST /api/models/{model}/start", model=second)
    assert (status, answer["error"]["field"]) == (429, "active")
    assert world.ask("POST /api/models/{model}/start", model=first)[0] == 202, (
        "a repeated start of the same model must not count twice"
    )
    assert world.shown(second)["status"] == "CREATED"
    finish([world])
    assert world.ask("POST /api/models/{model}/start", model=second)[0] == 202


def test_starts_at_once_make_one_request_and_one_job(make_world):
    world = make_world()
    model = world.upload()
    with ThreadPoolExecutor(6) as pool:
        start = [pool.submit(world.ask, "POST /api/models/{model}/start", model=model) for _ in range(6)]
    assert {(one.result()[0], one.result()[1]["model"]) for one in start} == {(202, model)}
    finish([world])
    check_ready(world)


def test_rate_limit_of_one_user_does_not_slow_others(make_world):
    world = make_world(limits={"requests_per_minute": 5})
    answers = [world.send("GET /api/models") for _ in range(7)]
    assert [answer["statusCode"] for answer in answers] == [200] * 5 + [429] * 2
    assert 1 <= int(answers[-1]["headers"]["Retry-After"]) <= 12
    assert json.loads(answers[-1]["body"])["error"]["field"] == "requests_per_minute"
    assert world.ask("GET /api/models", user="somebody else")[0] == 200


def test_rate_limit_counts_pictures_and_not_requests(make_world):
    # given
    world = make_world(limits={"pictures_per_minute": 6})
    model = ready(world)

    def ask(count: int, key: str) -> dict[str, Any]:
        body, place = {"prompt": "a cat", "count": count}, {"model": model}
        return world.send(GENERATE, body, pathParameters=place, headers={"Idempotency-Key": key})

    # when
    answers = [ask(4, "first"), ask(4, "second"), ask(2, "third")]
    # then
    assert [answer["statusCode"] for answer in answers] == [201, 429, 201]
    assert json.loads(answers[1]["body"])["error"]["field"] == "pictures_per_minute"
    assert 1 <= int(answers[1]["headers"]["Retry-After"]) <= 20
    assert [asked["count"] for _, asked in ENDPOINT.asked] == [4, 2]
    assert len([row for row in world.rows("generations") if "made" not in row]) == 2


def test_failed_generations_do_not_count_for_the_rate_limit(make_world):
    # given
    world = make_world(limits={"pictures_per_minute": 4})
    model = ready(world)
    place, body = {"pathParameters": {"model": model}}, {"prompt": "a cat", "count": 4}
    answer: Any = {"Error": {"Code": "ThrottlingException", "Message": ""}}
    ENDPOINT.fail = ClientError(answer, "InvokeEndpoint")
    # when
    busy = [world.send(GENERATE, body, **place)["statusCode"] for _ in range(3)]
    ENDPOINT.fail = None
    made = world.send(GENERATE, body, **place)["statusCode"]
    # then
    assert (busy, made) == ([503] * 3, 201)


def test_pixels_of_a_model_are_limited_in_total(make_world):
    world = make_world(limits={"model_pixels": 64 * 64 * 2})
    two, three = world.upload(2), world.upload(3)
    status, answer = world.ask("POST /api/models/{model}/start", model=three)
    assert (status, answer["error"]["field"]) == (422, "images")
    assert "at most 8192 pixels together, got 12288" in answer["error"]["message"]
    assert world.ask("POST /api/models/{model}/start", model=two)[0] == 202


def test_start_reads_no_more_than_headers(make_world, monkeypatch):
    # given
    world = make_world()
    noise = Image.effect_noise((1000, 1000), 90)
    content = io.BytesIO()
    noise.save(content, "PNG", compress_level=0)
    body = content.getvalue()
    images = [{"type": "image/png", "bytes": len(body)}]
    model = world.ask("POST /api/models", {"name": "x", "subject": "cat", "images": images})[1]["model"]
    key = f"uploads/{USER}/{model}/00"
    environment.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body, ContentType="image/png")
    read, original = [], S3Bucket.get_start

    def get_start(bucket: S3Bucket, key: str, most: int) -> bytes | None:
        read.append(original(bucket, key, most))
        return read[-1]

    monkeypatch.setattr(S3Bucket, "get_start", get_start)
    # when
    status, _ = world.ask("POST /api/models/{model}/start", model=model)
    # then
    assert status == 202
    assert [len(each) for each in read] == [HEADER_BYTES]
    assert len(body) > 3 * HEADER_BYTES


def test_values_above_configured_limits_are_refused_with_their_field(make_world):
    world = make_world(limits={"images_min": 2, "images_max": 3, "image_bytes": 1000, "prompt_chars": 10})
    for count in (1, 4):
        status, answer = world.ask(
            "POST /api/models", {"name": "x", "subject": "cat", "images": IMAGES * count}
        )
        assert (status, answer["error"]["field"]) == (422, "images")
        assert "2 to 3" in answer["error"]["message"]
    large = [*IMAGES, {"type": "image/png", "bytes": 1001}]
    status, answer = world.ask("POST /api/models", {"name": "x", "subject": "cat", "images": large})
    assert (status, answer["error"]["field"]) == (422, "images[1].bytes")
    status, answer = world.ask(GENERATE, {"prompt": "a" * 11}, model="0" * 26)
    assert (status, answer["error"]["field"]) == (422, "prompt")
