"""The loaded models, their memory, and the requests that use them."""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.failure import FatalError

from . import archive, weights
from .base import Base
from .settings import RequestError, Settings
from .triton import Triton

PROCESS = 768 * 2**20
"""Bytes that the process of a full pipeline uses in addition to its weights. About 340 MiB were measured on a
CPU; on a GPU the driver uses more."""


@dataclass
class Model:
    name: str
    url: str
    bytes: int = 0
    adapter: Path | None = None
    """Copy of the adapter's file. So the served file is the validated one, even if the original changes."""
    pipeline: str | None = None
    """Name of a full pipeline in Triton."""
    ready: bool = False
    busy: int = 0

    @property
    def shown(self) -> dict[str, str]:
        return {"modelName": self.name, "modelUrl": self.url}


class Models:
    """The loaded models. Thread-safe.

    Raises `RequestError` with the HTTP status that SageMaker's contract for multi-model containers requires.
    """

    def __init__(self, settings: Settings, triton: Triton, base: Base, scratch: Path):
        self.settings, self.triton, self.base = settings, triton, base
        self.budget = settings.memory or triton.state["free"] // 2
        self._folder = scratch / "adapters"
        self._folder.mkdir()
        self._models: dict[str, Model] = {}
        self._changed = threading.Condition()
        self._numbers = itertools.count()

    @property
    def shown(self) -> list[dict[str, str]]:
        with self._changed:
            return [model.shown for model in self._models.values() if model.ready]

    @property
    def bytes(self) -> int:
        """Memory of all loaded models, in bytes."""
        with self._changed:
            return sum(model.bytes for model in self._models.values())

    def find(self, name: str) -> Model:
        with self._changed:
            model = self._models.get(name)
            if model is None or not model.ready:
                raise RequestError(404, f"model {name[:200]} is not loaded")
            return model

    def load(self, name: str, url: str) -> Model:
        """Load a model. Raises `RequestError`: 409 if it is loaded, 507 if out of memory, 400 if invalid."""
        model = Model(name, url)
        with self._changed:
            if name in self._models:
                raise RequestError(409, f"model {name[:200]} is loaded already, or is being loaded")
            self._models[name] = model
        try:
            self._load(model, Path(url))
            with self._changed:
                model.ready = True
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RequestError(507, "could not copy the adapter: the disk is full") from None
            raise RequestError(400, f"could not read the archive: {error.strerror}") from None
        finally:
            if not model.ready:
                with self._changed:
                    del self._models[name]
                if model.adapter:
                    model.adapter.unlink(missing_ok=True)
        return model

    def _load(self, model: Model, folder: Path) -> None:
        files = archive.contents(folder)
        manifest = archive.manifest(folder)
        if manifest.get("full"):
            self._reserve(model, archive.full(folder, files) + PROCESS)
            pipeline = f"full-{next(self._numbers)}"
            try:
                self.triton.load(pipeline, folder / archive.PIPELINE)
            except FatalError as failure:
                raise RequestError(400, f"could not load the pipeline in the archive: {failure}") from None
            model.pipeline = pipeline
            return
        source = archive.weights(folder, files, manifest, self.base, self.settings.adapter_bytes)
        model.adapter = self._folder / f"{next(self._numbers)}.safetensors"
        _copy(source, model.adapter, self.settings.adapter_bytes)
        found = archive.read(model.adapter)
        archive.fit(found, self.triton.state["targets"])
        weights.check(found)
        self._reserve(model, found.elements * self.triton.state["itemsize"])

    def _reserve(self, model: Model, size: int) -> None:
        with self._changed:
            taken = sum(each.bytes for each in self._models.values())
            if taken + size > self.budget:
                raise RequestError(
                    507, f"could not reserve {size} bytes: {taken} of {self.budget} bytes are in use"
                )
            model.bytes = size

    @contextmanager
    def using(self, name: str) -> Iterator[Model]:
        """Keep the model loaded while it is used. Raises `RequestError` (404)."""
        with self._changed:
            model = self.find(name)
            model.busy += 1
        try:
            yield model
        finally:
            with self._changed:
                model.busy -= 1
                self._changed.notify_all()

    def unload(self, name: str) -> None:
        """Stop new requests, wait for those in flight, and free the model's memory."""
        with self._changed:
            model = self.find(name)
            model.ready = False
            self._changed.wait_for(lambda: model.busy == 0)
        try:
            if model.pipeline:
                self.triton.unload(model.pipeline)
            elif model.adapter:
                model.adapter.unlink(missing_ok=True)
                self._forget(self._relative(model.adapter))
        finally:
            with self._changed:
                del self._models[name]

    def _forget(self, adapter: str) -> None:
        while True:
            try:
                self.triton.ask({"forget": adapter})
                return
            except RequestError:  # the queue is full: retry, or else the memory would leak
                time.sleep(0.1)

    def generate(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        with self.using(name) as model:
            if model.pipeline:
                return self.triton.ask(request, model.pipeline)
            adapter = self._relative(model.adapter) if model.adapter else None
            return self.triton.ask(request | {"adapter": adapter})

    def _relative(self, adapter: Path) -> str:
        """Return the adapter's path relative to Triton's working directory."""
        return str(adapter.relative_to(self._folder.parent))

    def drain(self, seconds: float) -> None:
        """Wait for all requests in flight, at most `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: not any(each.busy for each in self._models.values()), seconds)


def _copy(source: Path, target: Path, most: int) -> None:
    """Copy at most `most` bytes. Raises `RequestError` if the source, whose size was checked, has grown."""
    with source.open("rb") as read, target.open("xb") as write:
        while block := read.read(1 << 20):
            if write.tell() + len(block) > most:
                raise RequestError(400, "the archive changed while it was read")
            write.write(block)
