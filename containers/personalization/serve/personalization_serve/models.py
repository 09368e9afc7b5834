"""Which models are loaded, within how much memory, and who still uses them."""

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

from toolkit.failure import Failure

from . import archive, weights
from .base import Base
from .settings import RequestError, Settings
from .triton import Triton

PROCESS = 768 * 2**20
"""Bytes that the process of a full pipeline takes beside its weights: about 340 MiB were measured on a CPU,
and on a GPU the driver takes its own."""


@dataclass
class Model:
    name: str
    url: str
    bytes: int = 0
    adapter: Path | None = None
    """Our own copy of the adapter's file: what was checked is what is served, whatever becomes of `url`."""
    pipeline: str | None = None
    """The name in Triton of a full pipeline."""
    ready: bool = False
    busy: int = 0

    @property
    def shown(self) -> dict[str, str]:
        return {"modelName": self.name, "modelUrl": self.url}


class Models:
    """Thread-safe. Every error is a `RequestError` with the status that SageMaker's contract gives it."""

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
        """What all loaded models take."""
        with self._changed:
            return sum(model.bytes for model in self._models.values())

    def find(self, name: str) -> Model:
        with self._changed:
            model = self._models.get(name)
            if model is None or not model.ready:
                raise RequestError(404, f"model {name[:200]} is not loaded")
            return model

    def load(self, name: str, url: str) -> Model:
        """409 when it is loaded, 507 when it does not fit, 400 when it is not what it should be."""
        model = Model(name, url)
        with self._changed:
            if name in self._models:
                raise RequestError(409, f"model {name[:200]} is loaded already")
            self._models[name] = model
        try:
            self._load(model, Path(url))
            with self._changed:
                model.ready = True
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RequestError(507, "there is no room on the disk for the adapter") from None
            raise RequestError(400, f"the archive cannot be read: {error.strerror}") from None
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
            except Failure as failure:
                raise RequestError(400, f"the pipeline in the archive cannot be loaded: {failure}") from None
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
                raise RequestError(507, f"{size} bytes do not fit: {taken} of {self.budget} are taken")
            model.bytes = size

    @contextmanager
    def using(self, name: str) -> Iterator[Model]:
        """The model stays loaded for as long as it is used."""
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
        """Nobody gets it any more; returns when those who have it are done and its memory is free."""
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
            except RequestError:  # the queue is full; memory that is not freed would be lost for good
                time.sleep(0.1)

    def generate(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        with self.using(name) as model:
            if model.pipeline:
                return self.triton.ask(request, model.pipeline)
            adapter = self._relative(model.adapter) if model.adapter else None
            return self.triton.ask(request | {"adapter": adapter})

    def _relative(self, adapter: Path) -> str:
        """The adapter's file, seen from the folder that Triton runs in."""
        return str(adapter.relative_to(self._folder.parent))

    def drain(self, seconds: float) -> None:
        """Wait until nobody uses any model, but no longer than that."""
        with self._changed:
            self._changed.wait_for(lambda: not any(each.busy for each in self._models.values()), seconds)


def _copy(source: Path, target: Path, most: int) -> None:
    """At most so many bytes: the source may grow while it is read."""
    with source.open("rb") as read, target.open("xb") as write:
        while block := read.read(1 << 20):
            if write.tell() + len(block) > most:
                raise RequestError(400, "the archive changed while it was read")
            write.write(block)
