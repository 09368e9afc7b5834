"""From a training task's result to an adapter that the endpoint can load.

Asked for by the event of the result's file, at the job's end, and by the sweeper: each repetition writes the
same bytes to the same place, and only the first moves the request on.
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
"""What the archive holds, and where the result has it."""
UNTOLD = "The training failed without saying why. Start the model again, or make one from other pictures."
LONGEST_REASON = 500


def prepare(backend: Backend, request: Request) -> Request:
    """Make `request` READY or FAILED if its result is there and whole; returns it as it is then.

    A result that is missing, or not whole yet, leaves it where it is: its files arrive in any order. Who is
    overtaken goes on from where the request is then; if that is in another job, it is that job's to say.
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
        # It was deleted between the two: what has just been written must go as well.
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
        log.warning("%sresult.json is not a result", folder)
        return None
    return result


def _files(backend: Backend, folder: str, result: dict[str, Any]) -> dict[str, bytes] | None:
    """The archive's files; None when one is missing or is not what the result says."""
    files = {}
    for name, path in FILES.items():
        body, told = backend.objects.get(folder + path), result.get("files", {}).get(path, {})
        whole = (
            body is not None
            and len(body) == told.get("bytes")
            and hashlib.sha256(body).hexdigest() == told.get("sha256")
        )
        if body is None or not whole:
            log.warning("%s%s is %s", folder, path, "missing" if body is None else "not what the result says")
            return None
        files[name] = body
    return files


def _keep_previews(backend: Backend, folder: str, request: Request) -> int:
    """Copy the first pictures to where they stay when the job's folder expires; returns how many."""
    source, target = f"{folder}previews/", keys.previews(request.user, request.model)
    pictures = backend.objects.list(source)
    for picture in pictures:
        backend.objects.copy(picture, target + picture.removeprefix(source))
    return len(pictures)


def _learn(backend: Backend, result: dict[str, Any]) -> None:
    """What a step took, for the estimates."""
    seconds, steps = result.get("seconds"), result.get("metrics", {}).get("steps")
    if isinstance(seconds, int | float) and isinstance(steps, int) and steps > 0 and seconds > 0:
        backend.store.learn(seconds / steps)


def _overtaken(backend: Backend, before: Request, now: Request) -> Request:
    """States only go forward within a job, so this comes to an end."""
    return prepare(backend, now) if now.job == before.job else now


def _moved(backend: Backend, before: Request, after: Request, previews: int | None = None) -> Request:
    """`after`, or when somebody else was faster, what the request is now."""
    if backend.store.move(before, after, previews=previews):
        return after
    now = backend.store.requests([before.request])
    return now[0] if now else replace(before, status=Status.DELETED)
