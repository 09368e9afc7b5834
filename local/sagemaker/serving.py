"""Containers that serve a model: fetched and started under the model's own role, asked, stopped.

A `ServingContainer` is one container. A `Variant` is what an endpoint has of them: one for each instance, or
one that comes with the first request and goes after a while without any. A `Fleet` is all variants of one
deployment. `hosting.py` decides which fleet an endpoint has. What a container of a multi-model endpoint holds
is in `multi_model.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import random
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local import archives
from local.images.store import Image
from local.sagemaker import artifacts
from local.sagemaker.api import ApiError, Context
from local.sagemaker.instances import Instance, NoAddressError, pull, reserve, share_of_cores
from local.sagemaker.logs import LogWriter
from local.sagemaker.multi_model import Measure, Models, NoRoomError
from local.sagemaker.quotas import setting
from local.sagemaker.reply import Reply
from local.sagemaker.store import Record

KIND = "endpoints"
"""Where the instances of endpoints lie below the cloud's `instances` folder."""
HOST_NAME = "model.aws.local"
"""An endpoint's container's host name, as one printed it: https://github.com/pytorch/serve/issues/1028"""
SESSION = "SageMaker"
"""The session name under which the service takes on a model's role."""

logger = logging.getLogger(__name__)

_SEE = "Please check CloudWatch logs for this endpoint."
_RESERVED = ("SAGEMAKER_BASE_DIR", "SAGEMAKER_BIND_TO_PORT", "BIND_HOST")


class ServingError(Exception):
    """A container cannot serve; the sentence is the endpoint's failure reason."""


class ThrottledError(Exception):
    """All that a serverless variant may do at once is being done."""


# Fetching


def _refused(error: Exception) -> str:
    if isinstance(error, ClientError):
        return f"{error.response['Error'].get('Code')}: {error.response['Error'].get('Message')}"
    return error.message if isinstance(error, ApiError) else str(error)


def _client(context: Context, service: str, role: str) -> Any:
    try:
        return context.platform.client(service, context.account, context.region, role, SESSION)
    except (ApiError, ClientError, BotoCoreError) as error:
        raise ServingError(
            f"Could not assume role {role}. Please ensure that the role exists and allows principal "
            f"'sagemaker.amazonaws.com' to assume the role. {_refused(error)}"
        ) from error


def pull_image(context: Context, uri: str, role: str) -> Image:
    """The image behind an ECR address, if the role may pull it. Raises ServingError."""
    try:
        return pull(context.platform, context.account, context.region, uri, role)
    except (ApiError, ClientError, BotoCoreError) as error:
        raise ServingError(
            f"The image '{uri}' cannot be pulled. Please ensure that it exists and that the role '{role}' "
            f"can be assumed by SageMaker and has permissions to pull it. {_refused(error)}"
        ) from error


def fetch_model(s3: Any, container: Record, folder: Path, most_bytes: float) -> None:
    """Put model data into `folder`: an archive unpacked, to at most so many bytes, a prefix as it is. Raises
    ServingError."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    uri = source.get("S3Uri") or container.get("ModelDataUrl")
    if not uri:
        return
    try:
        bucket, key = artifacts.split(uri)
        if source.get("S3DataType") == "S3Prefix":
            _fetch_prefix(s3, bucket, key, folder)
        elif source.get("CompressionType") == "None":
            s3.download_file(bucket, key, str(folder / key.rpartition("/")[2]))
        else:
            archives.unpack(s3.get_object(Bucket=bucket, Key=key)["Body"], folder, most_bytes)
    except (archives.ArchiveError, OSError) as error:
        raise ServingError(
            f'Failed to extract model data archive from URL "{uri}". Please ensure that the object located '
            f"at the URL is a valid tar.gz archive. {error}"
        ) from error
    except (ClientError, BotoCoreError, ValueError, artifacts.TransferError) as error:
        raise ServingError(
            f'Failed to download model data from URL "{uri}". Please ensure that there is an object located '
            "at the URL and that the role passed to CreateModel has permissions to download it. "
            f"{_refused(error)}"
        ) from error


def _fetch_prefix(s3: Any, bucket: str, prefix: str, folder: Path) -> None:
    keys = list(artifacts.list_keys(s3, bucket, prefix))
    if not keys:
        raise ValueError("No object has this prefix.")
    for key in keys:
        target = folder / artifacts.relative(key, prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, key, str(target))


# One container


class ServingContainer:
    """One container of a variant, from its model's download to its end. `stop` works at any moment, from
    any thread; a `start` under way then fails."""

    def __init__(self, context: Context, variant: Record, logs: LogWriter):
        self._context, self._variant, self._logs = context, variant, logs
        self.id = uuid.uuid4().hex
        self.stream = f"{variant['VariantName']}/{self.id}"
        self.models: Models | None = None
        """What it has loaded, where it serves many models."""
        self.busy = 0
        """Requests under way; the variant counts them."""
        self._instance: Instance | None = None
        self._lock = threading.Lock()
        self._answers = False
        self._stopped = threading.Event()

    @property
    def running(self) -> bool:
        """Whether the container has answered and has not ended since."""
        return self._answers and self._instance is not None and self._instance.running

    def start(self) -> None:
        """Fetch the model, start the container, wait until it answers. Raises ServingError."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        context, container = self._context, self._variant["Container"]
        role = self._variant["ExecutionRoleArn"]
        image = pull_image(context, container["Image"], role)
        with self._lock:
            self._check()
            try:
                instance = self._instance = Instance(context.platform, KIND, reserve(1)[0], HOST_NAME)
            except (NoAddressError, OSError) as error:
                raise ServingError(str(error)) from error
        environment = (
            share_of_cores(self._variant.get("InitialInstanceCount") or 1)
            | context.platform.credentials(context.account, context.region, role, SESSION)
            | {name: value for name, value in container["Environment"].items() if name not in _RESERVED}
            | {"SAGEMAKER_SAFE_PORT_RANGE": "20000-20999"}
        )
        if multi_model(self._variant):
            self.models = self._many(instance)
            environment["SAGEMAKER_MULTI_MODEL"] = "true"
        else:
            folder = instance.path("/opt/ml/model")
            fetch_model(_client(context, "s3", role), container, folder, self._volume())
        with self._lock:
            self._check()
            try:
                instance.start(
                    image,
                    ["serve"],
                    environment,
                    lambda line: self._logs.write(self.stream, line),
                    read_only=("/opt/ml/models" if self.models else "/opt/ml/model",),
                )
            except OSError as error:
                raise ServingError(f"The container cannot be started: {error}") from error
        self._await_ping(instance)
        self._answers = True

    def _many(self, instance: Instance) -> Models:
        context, variant = self._context, self._variant
        folder = instance.path("/opt/ml/models")
        folder.mkdir(exist_ok=True)

        def fetch(target: str, place: Path) -> None:
            url = f"{prefix_of(variant).rstrip('/')}/{target}"
            try:
                s3 = _client(context, "s3", variant["ExecutionRoleArn"])
                fetch_model(s3, {"ModelDataUrl": url}, place, self._volume())
            except ServingError as error:
                if isinstance(error.__cause__, archives.TooLargeError):
                    raise NoRoomError(str(error)) from error
                raise ApiError("ValidationError", str(error)) from error

        caching = variant["Container"].get("MultiModelConfig", {}).get("ModelCacheSetting", "Enabled")
        cached = caching == "Enabled"
        return Models(self._http, fetch, folder, self._volume, cached=cached, inside=instance.inside)

    def _volume(self) -> float:
        """Bytes that the instance's volume holds."""
        given = self._variant.get("VolumeSizeInGB")
        return 1e9 * (given or setting(self._context.platform, "endpoint_volume_gb"))

    def _check(self) -> None:
        if self._stopped.is_set():
            raise ServingError("The container was stopped before it answered.")

    def _await_ping(self, instance: Instance) -> None:
        deadline = time.monotonic() + self._patience()
        pause = 0.02
        failed = (
            f"The primary container for production variant {self._variant['VariantName']} did not pass the "
            "ping health check."
        )
        while True:
            code = instance.wait(pause)
            self._check()
            if code is not None:
                raise ServingError(f"{failed} It ended with exit code {code}. {_SEE}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._http("GET", "/ping", {}, b"", timeout=2).status == 200:
                    return
            if time.monotonic() > deadline:
                raise ServingError(f"{failed} It did not answer in {self._patience():g} seconds. {_SEE}")
            pause = min(pause * 1.5, 0.5)

    def _patience(self) -> float:
        given = self._variant.get("ContainerStartupHealthCheckTimeoutInSeconds")
        kind = "serverless" if self._variant.get("ServerlessConfig") else "endpoint"
        return given or setting(self._context.platform, f"{kind}_startup_timeout")

    def ask(self, headers: Mapping[str, str], body: bytes, target: str | None = None) -> Reply:
        """One invocation, of the model `target` where there are many. Raises OSError (TimeoutError too) or
        HTTPException where no answer comes, and ApiError for a model that cannot be had."""
        timeout = setting(self._context.platform, "invocation_timeout")
        try:
            if self.models is not None and target is not None:
                return self.models.invoke(target, headers, body, timeout)
            return self._http("POST", "/invocations", headers, body, timeout)
        except (ConnectionError, http.client.HTTPException):
            if self._instance is not None:  # it may be ending: who asks next is to find it ended
                self._instance.wait(1)
            raise

    def _http(self, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Reply:
        if self._instance is None:
            raise ConnectionError("The container is not there.")
        host = self._instance.host
        connection = http.client.HTTPConnection(host.name, host.port, timeout=timeout)
        started = time.monotonic()
        try:
            connection.request(method, path, body if method == "POST" else None, dict(headers))
            response = connection.getresponse()
            content = response.read()
            return Reply(response.status, dict(response.getheaders()), content, time.monotonic() - started)
        finally:
            connection.close()

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            self._answers = False
            instance = self._instance
        if instance is not None:
            instance.stop(setting(self._context.platform, "endpoint_stop_grace"))
            instance.close()


# A variant


def multi_model(variant: Record) -> bool:
    """Whether a variant serves many models, of which a request names one."""
    return variant["Container"].get("Mode") == "MultiModel"


def prefix_of(variant: Record) -> str:
    """The S3 address below which a variant's many models lie."""
    container = variant["Container"]
    return container.get("ModelDataUrl") or container["ModelDataSource"]["S3DataSource"]["S3Uri"]


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
            lambda: _client(context, "logs", role),
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
