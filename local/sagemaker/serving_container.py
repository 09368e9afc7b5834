"""A container that serves a model: fetched and started under the model's own role, asked, stopped.

What a container of a multi-model endpoint holds is in `multi_model.py`.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from local import archives
from local.images.store import Image
from local.sagemaker import artifacts
from local.sagemaker.api import ApiError, Context
from local.sagemaker.instances import Instance, NoAddressError, pull, reserve, share_of_cores
from local.sagemaker.logs import LogWriter
from local.sagemaker.multi_model import Models, NoRoomError
from local.sagemaker.quotas import setting
from local.sagemaker.reply import Reply
from local.sagemaker.store import Record

KIND = "endpoints"
"""Where the instances of endpoints lie below the cloud's `instances` folder."""
HOST_NAME = "model.aws.local"
"""An endpoint's container's host name, as one printed it: https://github.com/pytorch/serve/issues/1028"""
SESSION = "SageMaker"
"""The session name under which the service takes on a model's role."""

_RESERVED = ("SAGEMAKER_BASE_DIR", "SAGEMAKER_BIND_TO_PORT", "BIND_HOST")


class ServingError(Exception):
    """A container cannot serve; the sentence is the failure reason."""


def _refused(error: Exception) -> str:
    if isinstance(error, ClientError):
        return f"{error.response['Error'].get('Code')}: {error.response['Error'].get('Message')}"
    return error.message if isinstance(error, ApiError) else str(error)


def client_of(context: Context, service: str, role: str) -> Any:
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


def multi_model(variant: Record) -> bool:
    """Return whether the variant is a multi-model one: each request names its model."""
    return variant["Container"].get("Mode") == "MultiModel"


def prefix_of(variant: Record) -> str:
    """The S3 address below which a variant's many models lie."""
    container = variant["Container"]
    return container.get("ModelDataUrl") or container["ModelDataSource"]["S3DataSource"]["S3Uri"]


class ServingContainer:
    """One container of a variant, from its model's download to its end. `stop` works at any moment, from
    any thread; a `start` under way then fails."""

    folder: ClassVar[str] = KIND
    """Where its instance lies below the cloud's `instances` folder."""
    see: ClassVar[str] = "Please check CloudWatch logs for this endpoint."
    """Where the error messages refer to."""

    def __init__(self, context: Context, variant: Record, logs: LogWriter, stream: str = ""):
        """`stream` is its log stream, if not one of the variant's."""
        self._context, self._variant, self._logs = context, variant, logs
        self.id = uuid.uuid4().hex
        self.stream = stream or f"{variant['VariantName']}/{self.id}"
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
                instance = self._instance = Instance(context.platform, self.folder, reserve(1)[0], HOST_NAME)
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
            fetch_model(client_of(context, "s3", role), container, folder, self._volume())
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
                s3 = client_of(context, "s3", variant["ExecutionRoleArn"])
                fetch_model(s3, {"ModelDataUrl": url}, place, self._volume())
            except ServingError as error:
                if isinstance(error.__cause__, archives.TooLargeError):
                    raise NoRoomError(str(error)) from error
                raise ApiError("ValidationError", str(error)) from error

        caching = variant["Container"].get("MultiModelConfig", {}).get("ModelCacheSetting", "Enabled")
        cached = caching == "Enabled"
        return Models(self.request, fetch, folder, self._volume, cached=cached, inside=instance.inside)

    def _volume(self) -> float:
        """Bytes that the instance's volume holds."""
        given = self._variant.get("VolumeSizeInGB")
        return 1e9 * (given or setting(self._context.platform, "endpoint_volume_gb"))

    def _check(self) -> None:
        if self._stopped.is_set():
            raise ServingError("The container was stopped before it answered.")

    def _await_ping(self, instance: Instance) -> None:
        deadline = time.monotonic() + self._patience()
        pause, failed = 0.02, self.unhealthy()
        while True:
            code = instance.wait(pause)
            self._check()
            if code is not None:
                raise ServingError(f"{failed} It ended with exit code {code}. {self.see}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", "/ping", {}, b"", timeout=2).status == 200:
                    return
            if time.monotonic() > deadline:
                raise ServingError(f"{failed} It did not answer in {self._patience():g} seconds. {self.see}")
            pause = min(pause * 1.5, 0.1)

    def unhealthy(self) -> str:
        """The sentence for a container that does not answer /ping."""
        return (
            f"The primary container for production variant {self._variant['VariantName']} did not pass the "
            "ping health check."
        )

    def _patience(self) -> float:
        given = self._variant.get("ContainerStartupHealthCheckTimeoutInSeconds")
        kind = "serverless" if self._variant.get("ServerlessConfig") else "endpoint"
        return given or setting(self._context.platform, f"{kind}_startup_timeout")

    def ask(
        self,
        headers: Mapping[str, str],
        body: bytes,
        target: str | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """One invocation, of the model `target` where there are many. Raises OSError (TimeoutError too, after
        `timeout` seconds or those of the settings) or HTTPException where no answer comes, and ApiError for a
        model that cannot be had."""
        limit: float = timeout or setting(self._context.platform, "invocation_timeout")
        try:
            if self.models is not None and target is not None:
                return self.models.invoke(target, headers, body, limit)
            return self.request("POST", "/invocations", headers, body, limit)
        except (ConnectionError, http.client.HTTPException):
            if self._instance is not None:  # it may be ending: who asks next is to find it ended
                self._instance.wait(1)
            raise

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> Reply:
        """One HTTP request, for at most `timeout` seconds. Raises OSError or HTTPException."""
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
