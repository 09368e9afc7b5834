"""What serves the variants of an endpoint.

A `Variant` is what an endpoint has of serving containers (`serving_container.py`): one for each instance, or
one that comes with the first request and goes after a while without any. A `Fleet` is all variants of one
deployment. `hosting.py` decides which fleet an endpoint has.
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
    """All that a serverless variant may do at once is being done."""


class Variant:
    """What answers for one production variant. Requests that come while no container answers wait for one.

    A serverless one does at most `MaxConcurrency` at once, and its container goes after a while without a
    request. A container that ended by itself is replaced with the next request.
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
        self._state = threading.Condition()  # guards what follows
        self._servers: list[ServingContainer] = []
        self._busy = 0
        self._used = time.monotonic()
        self._closed = False
        self.setup = 0.0
        """Seconds that the last start of containers took."""
        if self.serverless:
            threading.Thread(target=self._idle, name=f"idle {endpoint}", daemon=True).start()

    @property
    def serverless(self) -> Record | None:
        return self.spec.get("ServerlessConfig")

    @property
    def wanted(self) -> int:
        """How many containers there should be while requests come."""
        return 1 if self.serverless else self.spec["InitialInstanceCount"]

    @property
    def running(self) -> int:
        """How many containers answer."""
        with self._state:
            return sum(server.running for server in self._servers)

    @property
    def stream(self) -> str:
        """The log stream of one of its containers."""
        with self._state:
            return self._servers[0].stream if self._servers else f"{self.name}/none"

    def start(self) -> bool:
        """See to it that a container answers; True if it had to be started. Raises ServingError."""
        running = self.running
        if running == self.wanted:
            return False
        if running:  # some answer; what is missing comes beside them
            if not self._starting.locked():
                threading.Thread(target=self._refill, name=f"refill {self.name}", daemon=True).start()
            return False
        return self.fill()

    def fill(self) -> bool:
        """Start and stop containers until as many answer as are wanted; True if one was started. Raises
        ServingError, and then those that had answered go on."""
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
                server.stop()  # it ended by itself, and its files are still here
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
        except ServingError as error:  # the next request tries again
            logger.warning("Variant %s: %s", self.name, error)

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """A place among what the variant does at once; False when the variant is closed. Raises
        ThrottledError when there is none."""
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
        """Raises what `ServingContainer.ask` raises."""
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
        """The container for a request: the least busy one. Of many models each has its own order of the
        instances, so that it stays where it is loaded while instances come and go, and another one takes it
        on when the first has its hands full."""
        running = [server for server in self._servers if server.running]
        if not running:
            raise ConnectionError("The container is not there.")
        if target is None:
            return min(running, key=lambda server: server.busy)
        order = sorted(running, key=lambda server: hashlib.sha256(f"{server.id} {target}".encode()).digest())
        full = setting(self._context.platform, "multi_model_busy")
        return next((server for server in order if server.busy < full), min(order, key=lambda s: s.busy))

    def loaded(self) -> list[list[str]]:
        """The models that each instance has loaded, where there are many."""
        with self._state:
            return [server.models.loaded() for server in self._servers if server.models is not None]

    def measures(self) -> list[Measure]:
        """What loading and unloading models took since the last call."""
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
                    # At most a second, as the setting may change meanwhile.
                    self._state.wait(min(1.0, left) if left > 0 else 1.0)
                    continue
                servers, self._servers = self._servers, []
            for server in servers:
                server.stop()

    def close(self, drain: float = 0.0) -> None:
        """End the containers, after the requests under way or `drain` seconds. New requests are refused."""
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


# All variants of one deployment


class Fleet:
    """The variants of one deployment of an endpoint."""

    def __init__(self, context: Context, endpoint: str, specs: list[Record]):
        self.variants = {spec["VariantName"]: Variant(context, endpoint, spec) for spec in specs}
        self.weights = {spec["VariantName"]: spec["InitialVariantWeight"] for spec in specs}

    def start(self) -> None:
        """Start all variants. Raises ServingError of the first that cannot, having closed all."""
        try:
            with ThreadPoolExecutor(max_workers=len(self.variants)) as pool:
                list(pool.map(Variant.fill, self.variants.values()))
        except BaseException:
            self.close()
            raise

    def choose(self, target: str | None = None) -> Variant | None:
        """The variant of that name, else one by weight. None where there is none such."""
        if target is not None:
            return self.variants.get(target)
        names = list(self.variants)
        weights = [self.weights[name] for name in names]
        return self.variants[random.choices(names, weights)[0]]  # noqa: S311 - traffic, not secrets

    def adjust(self, specs: list[Record]) -> None:
        """Take over weights, numbers of instances and serverless limits from changed specifications of the
        same variants. Raises ServingError where an instance does not come up; the others serve."""
        for spec in specs:
            self.weights[spec["VariantName"]] = spec["InitialVariantWeight"]
            variant = self.variants[spec["VariantName"]]
            variant.spec = spec
            if not variant.serverless:
                variant.fill()

    def close(self, drain: float = 0.0) -> None:
        with ThreadPoolExecutor(max_workers=len(self.variants)) as pool:
            list(pool.map(lambda variant: variant.close(drain), self.variants.values()))
