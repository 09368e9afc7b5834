"""The containers of an endpoint.

A `Variant` has one serving container (`serving_container.py`) for each instance. A serverless variant has a
single container, which is started with the first request and stopped after a time without requests. A `Fleet`
is all variants of one deployment. `hosting.py` decides which fleet an endpoint has.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from local.sagemaker.api import Context
from local.sagemaker.logs import LogWriter
from local.sagemaker.multi_model import Measure
from local.sagemaker.quotas import setting
from local.sagemaker.reply import Reply
from local.sagemaker.serving_container import ServingContainer, ServingError, client_of
from local.sagemaker.store import Record

logger = logging.getLogger(__name__)


class ThrottledError(Exception):
    """The variant is at its maximum concurrency."""


class Variant:
    """The containers of one production variant. Requests wait until a container is ready.

    A serverless variant has at most `MaxConcurrency` concurrent requests, and its container is stopped after
    a time without requests. A container that ended by itself is replaced at the next request.
    """

    def __init__(self, context: Context, endpoint: str, variant: Record):
        self._context, self.spec = context, variant
        self.name: str = variant["VariantName"]
        self.group = f"/aws/sagemaker/Endpoints/{endpoint}"
        role = variant["ExecutionRoleArn"]
        self._logs = LogWriter(
            lambda: client_of(context, "logs", role),
            self.group,
            setting(context.platform, "endpoint_log_interval"),
        )
        self._starting = threading.Lock()  # held while containers start
        self._state = threading.Condition()  # guards the fields below
        self._servers: list[ServingContainer] = []
        self._busy = 0
        self._used = time.monotonic()
        self._closed = False
        self.setup = 0.0
        """Duration of the last start of containers, in seconds."""
        if self.serverless:
            threading.Thread(target=self._idle, name=f"idle {endpoint}", daemon=True).start()

    @property
    def serverless(self) -> Record | None:
        return self.spec.get("ServerlessConfig")

    @property
    def wanted(self) -> int:
        """Number of containers that the variant should have while it gets requests."""
        return 1 if self.serverless else self.spec["InitialInstanceCount"]

    @property
    def running(self) -> int:
        """Number of containers that are ready."""
        with self._state:
            return sum(server.running for server in self._servers)

    @property
    def stream(self) -> str:
        """Log stream of the variant's first container."""
        with self._state:
            return self._servers[0].stream if self._servers else f"{self.name}/none"

    def start(self) -> bool:
        """Ensure that a container is ready. Return whether one had to be started. Raises ServingError."""
        running = self.running
        if running == self.wanted:
            return False
        if running:  # some are ready: start the missing ones in the background
            if not self._starting.locked():
                threading.Thread(target=self._refill, name=f"refill {self.name}", daemon=True).start()
            return False
        return self.fill()

    def fill(self) -> bool:
        """Start and stop containers to reach the desired number. Return whether any was started.

        Raises ServingError if a container does not start. The containers that were ready keep running."""
        with self._starting:
            began = time.monotonic()
            with self._state:
                if self._closed:
                    raise ServingError("The production variant was removed.")
                running = [server for server in self._servers if server.running]
                missing = self.wanted - len(running)
                ended = [server for server in self._servers if server not in running]
                fresh = [ServingContainer(self._context, self.spec, self._logs) for _ in range(missing)]
                surplus = running[self.wanted :]
                self._servers = running[: self.wanted] + fresh
            for server in ended:
                server.stop()  # it ended by itself; this removes its files
            if fresh:
                with ThreadPoolExecutor(max_workers=len(fresh)) as pool:
                    list(pool.map(ServingContainer.start, fresh))
                self.setup = time.monotonic() - began
            with self._state:
                self._used = time.monotonic()
                timeout = setting(self._context.platform, "invocation_timeout")
                self._state.wait_for(lambda: not any(each.busy for each in surplus), timeout)
            for server in surplus:
                server.stop()
            return bool(fresh)

    def _refill(self) -> None:
        try:
            self.fill()
        except ServingError as error:  # the next request retries
            logger.warning("Could not start all containers of variant %s: %s", self.name, error)

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Count a request while it is processed. Yields False if the variant is closed.

        Raises ThrottledError if the variant is at its maximum concurrency."""
        with self._state:
            if self._closed:
                yield False
                return
            if self.serverless and self._busy >= self.serverless["MaxConcurrency"]:
                raise ThrottledError
            self._busy += 1
        try:
            yield True
        finally:
            with self._state:
                self._busy -= 1
                self._used = time.monotonic()
                self._state.notify_all()

    def ask(self, headers: Mapping[str, str], body: bytes, target: str | None = None) -> Reply:
        """Send a request to one of the containers. Raises the same errors as `ServingContainer.ask`."""
        with self._state:
            server = self._choose(target)
            server.busy += 1
        try:
            return server.ask(headers, body, target)
        finally:
            with self._state:
                server.busy -= 1
                self._state.notify_all()

    def _choose(self, target: str | None) -> ServingContainer:
        """Return the container for a request: the least busy one.

        For a multi-model variant: the first instance that is not busy, in an order that is fixed for each
        model (rendezvous hashing). So a model stays on its instance when other instances come or go."""
        running = [server for server in self._servers if server.running]
        if not running:
            raise ConnectionError("The variant has no running container.")
        if target is None:
            return min(running, key=lambda server: server.busy)
        order = sorted(running, key=lambda server: hashlib.sha256(f"{server.id} {target}".encode()).digest())
        full = setting(self._context.platform, "multi_model_busy")
        return next((server for server in order if server.busy < full), min(order, key=lambda s: s.busy))

    def loaded(self) -> list[list[str]]:
        """Return the loaded models of each instance of a multi-model variant."""
        with self._state:
            return [server.models.loaded() for server in self._servers if server.models is not None]

    def measures(self) -> list[Measure]:
        """Return the metrics of loading and unloading models since the last call."""
        with self._state:
            several = [server.models for server in self._servers if server.models is not None]
        return [measure for models in several for measure in models.measures()]

    def _idle(self) -> None:
        while True:
            with self._state:
                if self._closed:
                    return
                allowed = setting(self._context.platform, "serverless_idle")
                left = self._used + allowed - time.monotonic()
                running = any(server.running for server in self._servers)
                if self._busy or left > 0 or not running:
                    # At most a second, because the setting may change meanwhile
                    self._state.wait(min(1.0, left) if left > 0 else 1.0)
                    continue
                servers, self._servers = self._servers, []
            for server in servers:
                server.stop()

    def close(self, drain: float = 0.0) -> None:
        """Refuse new requests, wait up to `drain` seconds for those in flight, then stop the containers."""
        with self._state:
            self._closed = True
            self._state.notify_all()
            self._state.wait_for(lambda: self._busy == 0, timeout=drain)
            servers = list(self._servers)
        threads = [threading.Thread(target=server.stop) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._logs.close()


class Fleet:
    """The variants of one deployment of an endpoint."""

    def __init__(self, context: Context, endpoint: str, specs: list[Record]):
        self.variants = {spec["VariantName"]: Variant(context, endpoint, spec) for spec in specs}
        self.weights = {spec["VariantName"]: spec["InitialVariantWeight"] for spec in specs}

    def start(self) -> None:
        """Start all variants. If one fails, close all and raise its ServingError."""
        try:
            with ThreadPoolExecutor(max_workers=len(self.variants)) as pool:
                list(pool.map(Variant.fill, self.variants.values()))
        except BaseException:
            self.close()
            raise

    def choose(self, target: str | None = None) -> Variant | None:
        """Return the variant named `target`, or None. Without a target, choose a variant by weight."""
        if target is not None:
            return self.variants.get(target)
        names = list(self.variants)
        weights = [self.weights[name] for name in names]
        return self.variants[random.choices(names, weights)[0]]  # noqa: S311 - traffic, not secrets

    def adjust(self, specs: list[Record]) -> None:
        """Apply changed weights, instance counts and serverless limits of the same variants.

        Raises ServingError if an instance does not start. The other instances keep serving."""
        for spec in specs:
            self.weights[spec["VariantName"]] = spec["InitialVariantWeight"]
            variant = self.variants[spec["VariantName"]]
            variant.spec = spec
            if not variant.serverless:
                variant.fill()

    def close(self, drain: float = 0.0) -> None:
        with ThreadPoolExecutor(max_workers=len(self.variants)) as pool:
            list(pool.map(lambda variant: variant.close(drain), self.variants.values()))
