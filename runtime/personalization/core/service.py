"""The operations of the API for a signed-in user: one function for each operation of `openapi.json`.

The identity of the user comes from `call.user` only. Keys in the bucket and model names at the endpoint come
from the user's own rows only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from personalization.core import images, keys
from personalization.core.generations import DONE, FAILED, shown_status
from personalization.core.http import Answer, Call, HttpError, invalid, not_found
from personalization.core.model import IN_JOB, Status, trigger
from personalization.core.ports import (
    AbsentError,
    Accounts,
    BusyError,
    Clock,
    Endpoint,
    FieldRefusedError,
    KeyReusedError,
    LimitReachedError,
    NotReadyError,
    SharedObjects,
    StillRunningError,
)
from personalization.core.rows import GenerationRequest, GenerationRow, ImageRow, ModelRow
from personalization.core.settings import JobSettings, Limits, Pace
from personalization.core.times import iso

log = logging.getLogger(__name__)

UPLOAD_SECONDS = 900
PICTURE_SECONDS = 900
PAGE = 24
"""Maximum number of generations in a response."""
WAITING = {"stage": "waiting", "step": 0, "steps": 0, "done": 0.0}


@dataclass(frozen=True)
class Service:
    """Adapters and settings of the operations."""

    accounts: Accounts
    bucket: SharedObjects
    endpoint: Endpoint
    seconds_per_step: Callable[[], float | None]
    clock: Clock
    settings: JobSettings
    pace: Pace
    limits: Limits


def answer(service: Service, operation: str, call: Call) -> Answer:
    """Return the response of an operation. `AbsentError` and `HttpError` become error responses."""
    try:
        if wait := service.accounts.wait(call.user, service.clock.now()):
            most = service.limits.requests_per_minute
            raise HttpError(
                429, "too_many", f"at most {most} requests a minute are allowed", "requests_per_minute", wait
            )
        return OPERATIONS[operation](service, call)
    except AbsentError:
        return not_found().answer()
    except HttpError as problem:
        return problem.answer()


# Models


def create_model(service: Service, call: Call) -> Answer:
    wanted, limits, now = call.body["images"], service.limits, service.clock.now()
    if not limits.images_min <= len(wanted) <= limits.images_max:
        allowed = f"{limits.images_min} to {limits.images_max} pictures"
        raise invalid("images", f"must be {allowed}, got {len(wanted)}")
    for number, image in enumerate(wanted):
        if image["bytes"] > limits.image_bytes:
            raise invalid(f"images[{number}].bytes", f"must be at most {limits.image_bytes}")
    try:
        name = call.body["name"].strip()
        model = service.accounts.create(call.user, name, call.body["subject"].strip(), wanted, now)
    except LimitReachedError:
        message = f"at most {limits.models} models are allowed: delete one first"
        raise HttpError(429, "too_many", message, "models", retry_after=60) from None
    uploads = [
        service.bucket.upload(
            keys.upload(call.user, model["model"], number), image["type"], image["bytes"], UPLOAD_SECONDS
        )
        for number, image in enumerate(wanted)
    ]
    body = {"model": model["model"], "uploads": uploads, "expires": iso(now + UPLOAD_SECONDS)}
    return Answer(201, body, {"Location": f"/api/models/{model['model']}"})


def start_model(service: Service, call: Call) -> Answer:
    model = service.accounts.model(call.user, call.path.get("model", ""))
    if model["status"] in (Status.CREATED, Status.FAILED):
        check_uploads(service, model)
        settings = service.settings
        steps = settings.steps(len(model["images"]))
        per_step = service.seconds_per_step() or settings.seconds_per_step
        estimate = per_step * steps
        try:
            service.accounts.start(model, steps, estimate, service.pace.max_attempts, service.clock.now())
        except LimitReachedError:
            message = f"at most {service.limits.active} trainings at once are allowed: wait for one to end"
            raise HttpError(429, "too_many", message, "active", retry_after=60) from None
    return Answer(202, {"model": model["model"]})


def check_uploads(service: Service, model: ModelRow) -> None:
    """Check that every picture was uploaded with the announced size and type, and is within the limits.

    Only headers are read, so the cost of a start does not depend on the size of the uploads. The fine-tune
    decodes the pictures and reports damaged ones. Raises `HttpError`.
    """
    pixels, most = 0, service.limits.model_pixels
    for number, wanted in enumerate(model["images"]):
        field, key = f"images[{number}]", keys.upload(model["user"], model["model"], number)
        found = service.bucket.size_and_type(key)
        if found is None:
            raise invalid(field, "has not been uploaded")
        if found != (wanted["bytes"], wanted["type"]):
            told = f"{wanted['bytes']} bytes of {wanted['type']}"
            raise invalid(field, f"is {found[0]} bytes of {found[1]}, must be the announced {told}")
        try:
            width, height = _check_header(service, key, wanted)
        except images.ImageError as error:
            raise invalid(field, str(error)) from error
        pixels += width * height
    if pixels > most:
        raise invalid("images", f"must have at most {most} pixels together, got {pixels}: make them smaller")


def _check_header(service: Service, key: str, wanted: ImageRow) -> tuple[int, int]:
    """Return the width and height of a picture. Raises `images.ImageError`."""
    limits = service.limits
    start = min(images.HEADER_BYTES, wanted["bytes"])
    for most in (start, wanted["bytes"]):
        content = service.bucket.get_start(key, most) or b""
        try:
            return images.check(content, wanted["type"], limits.image_pixels, limits.image_side)
        except images.ImageError:  # the header may be longer than `start`; WebP needs the whole file
            if most == wanted["bytes"]:
                raise
    raise AssertionError("unreachable")


def list_models(service: Service, call: Call) -> Answer:
    return Answer(200, {"models": [_summary(model) for model in service.accounts.models_of(call.user)]})


def get_model(service: Service, call: Call) -> Answer:
    model = service.accounts.model(call.user, call.path.get("model", ""))
    shown = {"progress": _progress(service, model), "previews": _previews(service, model)}
    return Answer(200, _summary(model) | shown)


def delete_model(service: Service, call: Call) -> Answer:
    model = call.path.get("model", "")
    service.accounts.delete(call.user, model, service.clock.now())
    return Answer(202, {"model": model, "status": Status.DELETED})


def _summary(model: ModelRow) -> dict[str, Any]:
    return {
        "model": model["model"],
        "name": model["name"],
        "subject": model["subject"],
        "trigger": trigger(model["subject"]),
        "status": model["status"],
        "reason": model["reason"],
        "images": len(model["images"]),
        "created": model["created"],
        "updated": model["updated"],
    }


def _progress(service: Service, model: ModelRow) -> dict[str, Any]:
    """Return the last progress of the training. The container's file is untrusted: only known fields pass."""
    if model["status"] in (Status.READY, Status.PREPARING):
        return WAITING | {"stage": "done", "done": 1.0}
    if model["status"] not in IN_JOB:
        return WAITING | ({"stage": "failed"} if model["status"] == Status.FAILED else {})
    content = service.bucket.get(f"{keys.checkpoint(model.get('job', ''), model['request'])}progress.json")
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        told = json.loads(content or b"")
        step, steps = int(told["step"]), int(told["steps"])
        done = min(1.0, max(0.0, step / steps)) if steps > 0 else 0.0
        if told["stage"] in ("training", "previews", "done", "failed"):
            return {"stage": told["stage"], "step": step, "steps": steps, "done": done}
    return WAITING


def _previews(service: Service, model: ModelRow) -> list[str]:
    """Return URLs of the preview pictures: in the job's folder while it runs, then in the model's folder."""
    if model["status"] == Status.READY:
        folder = keys.previews(model["user"], model["model"])
    elif model["status"] in IN_JOB:
        folder = f"{keys.checkpoint(model.get('job', ''), model['request'])}previews/"
    else:
        return []
    found = [key for key in service.bucket.list(folder) if key.endswith(".png")]
    return [service.bucket.picture(key, PICTURE_SECONDS) for key in found]


# Generations


def create_generation(service: Service, call: Call) -> Answer:
    prompt, most = call.body["prompt"], service.limits.prompt_chars
    if len(prompt) > most:
        raise invalid("prompt", f"must have at most {most} characters, got {len(prompt)}")
    key = call.headers.get("idempotency-key")
    model = service.accounts.model(call.user, call.path.get("model", ""))
    seed, count = call.body.get("seed", secrets.randbelow(2**32)), call.body.get("count", 1)
    _count_pictures(service, call.user, count)
    try:
        generation = _begin(service, model, prompt, seed, count, key)
        made_before = generation["status"] == DONE
        if not made_before:
            make_pictures(service, model, generation)
    except Exception:
        _give_back(service, call.user, count)
        raise
    if made_before:
        _give_back(service, call.user, count)
    location = {"Location": f"/api/generations/{generation['generation']}"}
    return Answer(201, _generation(service, {**generation, "status": DONE}), location)


def _count_pictures(service: Service, user: str, count: int) -> None:
    if wait := service.accounts.wait_for_pictures(user, count, service.clock.now()):
        most = service.limits.pictures_per_minute
        raise HttpError(
            429, "too_many", f"at most {most} pictures a minute are allowed", "pictures_per_minute", wait
        )


def _give_back(service: Service, user: str, count: int) -> None:
    """Give the rate limiter back the tokens of a request that made no pictures."""
    service.accounts.wait_for_pictures(user, -count, service.clock.now())


def _begin(
    service: Service, model: ModelRow, prompt: str, seed: int, count: int, key: str | None
) -> GenerationRow:
    """Return a new generation, or the idempotency key's earlier one. Raises `HttpError`, `AbsentError`."""
    try:
        return service.accounts.begin(model, prompt, seed, count, key, service.clock.now())
    except NotReadyError as error:
        message = f"The model is {error.args[0]}; wait until it is READY."
        raise HttpError(409, "not_ready", message, "model") from None
    except KeyReusedError:
        raise invalid("Idempotency-Key", "was used for another request") from None
    except StillRunningError:
        raise HttpError(
            503, "unavailable", "The first request with this Idempotency-Key is still running.", retry_after=2
        ) from None


def make_pictures(service: Service, model: ModelRow, generation: GenerationRow) -> None:
    """Invoke the endpoint, store the request and the pictures, then set the generation to DONE.

    Raises `HttpError`, and `AbsentError` if the model was deleted meanwhile.
    """
    folder = keys.generation(model["user"], model["model"], generation["generation"])
    request: GenerationRequest = {
        "prompt": generation["prompt"],
        "seed": generation["seed"],
        "count": generation["count"],
    }
    try:
        service.bucket.put(f"{folder}input.json", json.dumps(request).encode(), "application/json")
        pictures = service.endpoint.generate(model["target"], request)
        for number, picture in enumerate(pictures):
            service.bucket.put(f"{folder}{number}.png", picture, "image/png")
    except FieldRefusedError as error:
        service.accounts.end(generation, FAILED, service.clock.now())
        raise invalid(error.field, error.message) from error
    except BusyError as error:
        log.warning("the endpoint made no pictures: %s", error)
        service.accounts.end(generation, FAILED, service.clock.now())
        message = "The model is being loaded or the service is busy. Try again."
        raise HttpError(503, "unavailable", message, retry_after=error.seconds) from error
    if not service.accounts.end(generation, DONE, service.clock.now()):
        service.bucket.delete(service.bucket.list(folder))  # the model was deleted meanwhile
        raise AbsentError


def list_generations(service: Service, call: Call) -> Answer:
    before = call.query.get("before")
    model = service.accounts.model(call.user, call.path.get("model", ""))
    found = service.accounts.generations_of(call.user, model["model"], before, PAGE + 1)
    shown = found[:PAGE]
    body: dict[str, Any] = {"generations": [_generation(service, generation) for generation in shown]}
    return Answer(200, body | ({"next": shown[-1]["generation"]} if len(found) > PAGE else {}))


def get_generation(service: Service, call: Call) -> Answer:
    generation = service.accounts.generation(call.user, call.path.get("generation", ""))
    # A deleted model's generations must not be found any more; their rows are removed later
    service.accounts.model(call.user, generation["model"])
    return Answer(200, _generation(service, generation))


def _generation(service: Service, generation: GenerationRow) -> dict[str, Any]:
    status = shown_status(generation, service.clock.now())
    folder = keys.generation(generation["user"], generation["model"], generation["generation"])
    count = generation["count"] if status == DONE else 0
    fields = ("generation", "model", "prompt", "seed", "count", "created")
    return {field: generation[field] for field in fields} | {
        "status": status,
        "images": [
            service.bucket.picture(f"{folder}{number}.png", PICTURE_SECONDS) for number in range(count)
        ],
    }


OPERATIONS: dict[str, Callable[[Service, Call], Answer]] = {
    "createModel": create_model,
    "listModels": list_models,
    "getModel": get_model,
    "deleteModel": delete_model,
    "startModel": start_model,
    "createGeneration": create_generation,
    "listGenerations": list_generations,
    "getGeneration": get_generation,
}
"""By `operationId`."""
