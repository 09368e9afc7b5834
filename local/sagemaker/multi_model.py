"""The models of one container of a multi-model endpoint: download, loading and eviction.

As on AWS there are two caches. Models are downloaded to the instance's volume, and loaded from there into the
container's memory. If the container returns status 507, its memory is full: the least recently used model is
unloaded, and its files stay on the volume. If the volume is full, the least recently used model's files are
deleted. So an archive that is replaced in S3 is downloaded again only after the old files were deleted: give
a new model a new key.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from local.sagemaker.api import ApiError
from local.sagemaker.reply import Reply

LOAD_TIMEOUT = 360.0
"""AWS's timeout for loading a model, in seconds. Callers get a retryable error much earlier."""
LONGEST_TARGET = 1_024

logger = logging.getLogger(__name__)

Measure = tuple[str, float, str]
"""Name, value and unit of a metric."""


class Ask(Protocol):
    """One request to the container."""

    def __call__(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> Reply: ...


class ModelLoadError(Exception):
    """The container refused to load a model, with this reply."""

    def __init__(self, reply: Reply):
        super().__init__(reply.status)
        self.reply = reply


class NoRoomError(Exception):
    """A model is larger than the instance's volume."""


class Model:
    """One model on one instance. `lock` is held while it is loaded or removed."""

    def __init__(self, target: str, folder: Path):
        self.target = target
        self.name = hashlib.sha256(target.encode()).hexdigest()[:32]
        self.folder = folder / self.name
        self.lock = threading.Lock()
        self.size = 0
        """Bytes on the volume; 0: it is not on the volume."""
        self.loaded = False
        self.users = 0
        self.used = 0.0
        self.coming: Coming | None = None


class Coming:
    """The loading of a model, for which requests wait."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None


class Models:
    """The models of one container. Thread-safe.

    :param ask: sends a request to the container
    :param fetch: `(target, folder)`: downloads a model's files into a folder
    :param folder: parent folder of the models' folders
    :param capacity: returns the volume's size in bytes
    :param cached: False: a model is removed as soon as no request uses it
    :param inside: returns the path in the container for a local path
    """

    def __init__(
        self,
        ask: Ask,
        fetch: Callable[[str, Path], None],
        folder: Path,
        capacity: Callable[[], float],
        cached: bool,
        inside: Callable[[Path], str] = str,
    ):
        self._ask, self._fetch, self._folder, self._inside = ask, fetch, folder, inside
        self._capacity, self._cached = capacity, cached
        self._lock = threading.Lock()  # guards the fields below; never held while waiting
        self._models: dict[str, Model] = {}
        self._measures: list[Measure] = []

    def invoke(self, target: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Reply:
        """Send a request to a model, after loading it if needed.

        If the container refuses to load the model, return that reply. Raises ApiError if the model cannot be
        fetched or is not ready in time, and the errors of the request to the container."""
        began = time.monotonic()
        try:
            with self._held(target, timeout) as model:
                left = max(0.001, timeout - (time.monotonic() - began))
                return self._ask("POST", f"/models/{model.name}/invoke", headers, body, left)
        except ModelLoadError as refused:
            return refused.reply

    def loaded(self) -> list[str]:
        """Return the targets in the container's memory."""
        with self._lock:
            return [model.target for model in self._models.values() if model.loaded]

    def measures(self) -> list[Measure]:
        """Return the metrics recorded since the last call."""
        with self._lock:
            taken, self._measures = self._measures, []
        return taken

    @contextmanager
    def _held(self, target: str, timeout: float) -> Iterator[Model]:
        """Load the model if needed and yield it. It is not removed before the block ends."""
        with self._lock:
            model = self._models.setdefault(target, Model(target, self._folder))
            model.users += 1
            hit = model.loaded
        try:
            self._measure("ModelCacheHit", float(hit), "Count")
            if not hit:
                self._await(model, timeout)
            yield model
        finally:
            with self._lock:
                model.users -= 1
                model.used = time.monotonic()
            if not self._cached and not model.users:
                self._remove(model)
            self._forget(model)

    def _await(self, model: Model, timeout: float) -> None:
        """Wait until the model is loaded. Loading continues after the caller's timeout."""
        began = time.monotonic()
        with self._lock:
            if model.loaded:
                return
            coming = model.coming
            if coming is None:
                coming = model.coming = Coming()
                model.users += 1  # the loading thread counts as a user
                threading.Thread(target=self._bring, args=(model, coming), daemon=True).start()
        in_time = coming.done.wait(timeout)
        self._measure("ModelLoadingWaitTime", (time.monotonic() - began) * 1e6, "Microseconds")
        if not in_time:
            raise ApiError(
                "ModelNotReadyException",
                "The target model is being downloaded or loaded. Wait and try your request again.",
                429,
            )
        if coming.error is not None:
            raise coming.error

    def _bring(self, model: Model, coming: Coming) -> None:
        try:
            with model.lock:
                if not model.size:
                    self._download(model)
                self._load(model)
        except Exception as error:  # raised in the waiting requests
            coming.error = error
        finally:
            with self._lock:
                model.users -= 1
                model.used = time.monotonic()
                model.coming = None
            coming.done.set()
            self._forget(model)

    def _download(self, model: Model) -> None:
        with self._timed("ModelDownloadingTime"):
            place = model.folder / "model"
            try:
                place.mkdir(parents=True, exist_ok=True)
                try:
                    self._fetch(model.target, place)
                except NoRoomError:
                    raise ModelLoadError(
                        _no_room(model, "the instance's volume has no room for it")
                    ) from None
                size = sum(each.lstat().st_size for each in place.rglob("*")) or 1
                while self._stored() + size > self._capacity():
                    victim = self._least_recent(lambda other: bool(other.size) and other is not model)
                    if victim is None:
                        raise ModelLoadError(_no_room(model, "the instance's volume has no room for it"))
                    self._remove(victim)
                model.size = size
            except BaseException:
                shutil.rmtree(model.folder, ignore_errors=True)
                raise

    def _load(self, model: Model) -> None:
        url = self._inside(model.folder / "model")
        request = json.dumps({"model_name": model.name, "url": url}).encode()
        kind = {"Content-Type": "application/json"}
        while True:
            with self._timed("ModelLoadingTime"):
                reply = self._ask("POST", "/models", kind, request, LOAD_TIMEOUT)
            if reply.status in (200, 409):
                model.loaded = True
                return
            victim = None
            if reply.status == 507:
                victim = self._least_recent(lambda other: other.loaded and other is not model)
            if victim is None:
                if reply.status != 507:  # 507: memory is full; the files are kept for the next attempt
                    self._delete_files(model)
                raise ModelLoadError(reply)
            with victim.lock:
                self._unload(victim)

    def _least_recent(self, fits: Callable[[Model], bool]) -> Model | None:
        with self._lock:
            idle = [model for model in self._models.values() if not model.users and fits(model)]
        return min(idle, key=lambda model: model.used, default=None)

    def _unload(self, model: Model) -> None:
        """Unload the model. The caller holds its lock. The next request loads it again."""
        with self._lock:
            if model.users or not model.loaded:
                return  # in use again, or already unloaded
            model.loaded = False
        with self._timed("ModelUnloadingTime"):
            reply = self._ask("DELETE", f"/models/{model.name}", {}, b"", LOAD_TIMEOUT)
        if reply.status not in (200, 404):
            logger.warning(
                "Could not unload model %s: the container returned %s: %s",
                model.target,
                reply.status,
                reply.body[:200],
            )

    def _remove(self, model: Model) -> None:
        """Unload a model and delete its files, unless a request uses it."""
        with model.lock:
            try:
                self._unload(model)
            except (OSError, http.client.HTTPException) as error:
                # the container ends or has ended
                logger.warning("Could not unload model %s: %s", model.target, error)
            with self._lock:
                if model.users or model.loaded:
                    return
            self._delete_files(model)
        self._forget(model)

    def _delete_files(self, model: Model) -> None:
        shutil.rmtree(model.folder, ignore_errors=True)
        model.size = 0

    def _forget(self, model: Model) -> None:
        """Drop an unused model without files. Otherwise targets that do not exist would accumulate."""
        with self._lock:
            known = self._models.get(model.target) is model
            if known and not (model.users or model.loaded or model.size):
                del self._models[model.target]

    def _stored(self) -> int:
        with self._lock:
            return sum(model.size for model in self._models.values())

    def _measure(self, *measure: str | float) -> None:
        with self._lock:
            self._measures.append(measure)  # type: ignore[arg-type]

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._measure(name, (time.monotonic() - began) * 1e6, "Microseconds")


def _no_room(model: Model, why: str) -> Reply:
    return Reply(507, {}, f"Model {model.target} cannot be loaded: {why}.".encode(), 0.0)


def checked_target(target: str) -> str:
    """Return the target without a leading slash.

    Raises ApiError if it is not a path below the endpoint's prefix."""
    parts = target.removeprefix("/").split("/")
    if not target.isprintable() or {"", ".", ".."} & set(parts) or len(target) > LONGEST_TARGET:
        raise ApiError("ValidationError", f"TargetModel '{target}' is not the relative path of a model.")
    return "/".join(parts)
