"""Turns the result of a training task into the archive that the endpoint loads.

Runs on the S3 event of the file `result.json`, at the job's end, and in the sweeper. Idempotent: each call
writes the same bytes to the same key, and only the first call changes the request's status.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from typing import Any

from personalization.core import archive, keys
from personalization.core.model import IN_JOB, Request, Status
from personalization.core.ports import Backend

log = logging.getLogger(__name__)

FILES = {
    "adapter.json": "adapter/adapter.json",
    "adapter_model.safetensors": "adapter/adapter_model.safetensors",
}
"""Files of the archive, with their paths in the result."""
UNTOLD = "The training failed for an unknown reason. Start the model again, or make one from other pictures."
LONGEST_REASON = 500


def prepare(backend: Backend, request: Request) -> Request:
    """Make `request` READY or FAILED if its result is complete; return its current state.

    The files of a result arrive in any order. An absent or incomplete result leaves the request unchanged. If
    another process changes the request meanwhile, continue from its new state, unless it is in another job.
    """
    if request.status not in IN_JOB:
        return request
    folder = keys.checkpoint(request.job, request.request)
    result = _result(backend, folder)
    if result is None:
        return request
    now = backend.clock.now()
    if result.get("status") != "done":
        reason = str(result.get("reason") or UNTOLD)[:LONGEST_REASON]
        failed = replace(request, status=Status.FAILED, reason=reason, updated=now)
        after = _moved(backend, request, failed)
        backend.count("RequestsFailed", float(after is failed))
        return after if after is failed else _overtaken(backend, request, after)
    files = _files(backend, folder, result)
    if files is None:
        return request
    if request.status != Status.PREPARING:
        preparing = replace(request, status=Status.PREPARING, updated=now)
        after = _moved(backend, request, preparing)
        if after is not preparing:
            return _overtaken(backend, request, after)
        request = preparing
    backend.objects.put(keys.adapter(request.user, request.model), archive.build(files), "application/gzip")
    previews = _keep_previews(backend, folder, request)
    ready = replace(request, status=Status.READY, reason="", updated=backend.clock.now())
    after = _moved(backend, request, ready, previews)
    if after is ready:
        backend.count("TimeToReadySeconds", max(0.0, ready.updated - ready.queued_at))
        _learn(backend, result)
    elif after.status == Status.DELETED:
        # The model was deleted meanwhile: delete the objects that were just written
        late = [keys.adapter(request.user, request.model)]
        backend.objects.delete(late + backend.objects.list(keys.previews(request.user, request.model)))
    return after


def _result(backend: Backend, folder: str) -> dict[str, Any] | None:
    body = backend.objects.get(f"{folder}result.json")
    if body is None:
        return None
    try:
        result = json.loads(body)
    except ValueError:
        result = None
    if not isinstance(result, dict) or result.get("version") != 1:
        log.warning("%sresult.json must be a JSON object with version 1", folder)
        return None
    return result


def _files(backend: Backend, folder: str, result: dict[str, Any]) -> dict[str, bytes] | None:
    """Return the archive's files; None if one is absent or differs from the result in size or SHA-256."""
    files = {}
    for name, path in FILES.items():
        body, told = backend.objects.get(folder + path), result.get("files", {}).get(path, {})
        whole = (
            body is not None
            and len(body) == told.get("bytes")
            and hashlib.sha256(body).hexdigest() == told.get("sha256")
        )
        if body is None or not whole:
            log.warning(
                "%s%s is %s",
                folder,
                path,
                "missing" if body is None else "not of the size and SHA-256 in result.json",
            )
            return None
        files[name] = body
    return files


def _keep_previews(backend: Backend, folder: str, request: Request) -> int:
    """Copy the preview pictures to the model's folder, because the job's folder expires; return their
    number."""
    source, target = f"{folder}previews/", keys.previews(request.user, request.model)
    pictures = backend.objects.list(source)
    for picture in pictures:
        backend.objects.copy(picture, target + picture.removeprefix(source))
    return len(pictures)


def _learn(backend: Backend, result: dict[str, Any]) -> None:
    """Record the duration of a training step for estimates."""
    seconds, steps = result.get("seconds"), result.get("metrics", {}).get("steps")
    if isinstance(seconds, int | float) and isinstance(steps, int) and steps > 0 and seconds > 0:
        backend.store.learn(seconds / steps)


def _overtaken(backend: Backend, before: Request, now: Request) -> Request:
    """Continue with the request's new state if its job is the same. This ends, as states only advance."""
    return prepare(backend, now) if now.job == before.job else now


def _moved(backend: Backend, before: Request, after: Request, previews: int | None = None) -> Request:
    """Change the request; return `after`, or the current request if another process changed it first."""
    if backend.store.move(before, after, previews=previews):
        return after
    now = backend.store.requests([before.request])
    return now[0] if now else replace(before, status=Status.DELETED)
