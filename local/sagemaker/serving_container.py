"""A container that serves a model. Its image and model data are fetched with the model's role.

The models of a multi-model endpoint's container are in `multi_model.py`.
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
"""Folder of the endpoints' instances below the cloud's `instances` folder."""
HOST_NAME = "model.aws.local"
"""Host name of endpoint containers, as a container on AWS printed it:
https://github.com/pytorch/serve/issues/1028"""
SESSION = "SageMaker"
"""Session name with which the service assumes a model's role."""

_RESERVED = ("SAGEMAKER_BASE_DIR", "SAGEMAKER_BIND_TO_PORT", "BIND_HOST")


class ServingError(Exception):
    """A container cannot serve. The message is the failure reason."""


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
    """Return the image at an ECR address. Raises ServingError if it is missing or the role cannot pull it."""
    try:
        return pull(context.platform, context.account, context.region, uri, role)
    except (ApiError, ClientError, BotoCoreError) as error:
        raise ServingError(
            f"The image '{uri}' cannot be pulled. Please ensure that it exists and that the role '{role}' "
            f"can be assumed by SageMaker and has permissions to pull it. {_refused(error)}"
        ) from error


def fetch_model(s3: Any, container: Record, folder: Path, most_bytes: float) -> None:
    """Download model data into `folder`, and unpack an archive. Raises ServingError.

    :param container: container definition
    :param most_bytes: maximum size of an unpacked archive
    """
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
    """Return the S3 prefix of the models of a multi-model variant."""
    container = variant["Container"]
    return container.get("ModelDataUrl") or container["ModelDataSource"]["S3DataSource"]["S3Uri"]


class ServingContainer:
    """One container of a variant. `stop` can be called at any time, from any thread; then `start` fails."""

    folder: ClassVar[str] = KIND
    """Folder of the container's instance below the cloud's `instances` folder."""
    see: ClassVar[str] = "Please check CloudWatch logs for this endpoint."
    """End of the error messages."""

    def __init__(self, context: Context, variant: Record, logs: LogWriter, stream: str = ""):
        """:param stream: name of the container's log stream; default: a new stream of the variant"""
        self._context, self._variant, self._logs = context, variant, logs
        self.id = uuid.uuid4().hex
        self.stream = stream or f"{variant['VariantName']}/{self.id}"
        self.models: Models | None = None
        """The models of a multi-model container; None for other containers."""
        self.busy = 0
        """Number of requests in flight, which the variant updates."""
        self._instance: Instance | None = None
        self._lock = threading.Lock()
        self._answers = False
        self._stopped = threading.Event()

    @property
    def running(self) -> bool:
        """Whether the container passed the health check and has not ended since."""
        return self._answers and self._instance is not None and self._instance.running

    def start(self) -> None:
        """Fetch the model, start the container and wait for its health check. Raises ServingError."""
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
        """Return the size of the instance's volume in bytes."""
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
        """Return the error message for a container that does not answer /ping."""
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
        """Send one invocation and return the reply.

        Raises OSError (TimeoutError after the timeout) or HTTPException if there is no reply, and ApiError if
        the target model cannot be fetched or is not ready in time.

        :param target: model of a multi-model container
        :param timeout: seconds; default: the setting `invocation_timeout`
        """
        limit: float = timeout or setting(self._context.platform, "invocation_timeout")
        try:
            if self.models is not None and target is not None:
                return self.models.invoke(target, headers, body, limit)
            return self.request("POST", "/invocations", headers, body, limit)
        except (ConnectionError, http.client.HTTPException):
            if self._instance is not None:  # if it is ending, wait until it has ended
                self._instance.wait(1)
            raise

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> Reply:
        """Send one HTTP request, for at most `timeout` seconds. Raises OSError or HTTPException."""
        if self._instance is None:
            raise ConnectionError("The container was not started.")
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
