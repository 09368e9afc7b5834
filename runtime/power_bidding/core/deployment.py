"""Deploys a version of the model on a separate endpoint, and rolls back.

A serverless endpoint serves one version, and an update may cause a cold start. So each version gets its own
endpoint, which is warmed up and tried before it is put into service. A Systems Manager parameter names the
endpoint in service. The previous endpoint is kept for a rollback.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from power_bidding.core.bid_ports import EndpointThrottledError, ModelAnswerError, Serving

POLL_SECONDS = 5.0
WARM_SECONDS = 5.0
SUFFIX = re.compile(r"-[0-9a-f]{12}")
IN_SERVICE, FAILED = "InService", "Failed"


class DeploymentFailedError(Exception):
    """The version was not put into service, and the endpoint in service is unchanged. The message has the
    reason."""


@dataclass(frozen=True)
class Version:
    """The model version to deploy."""

    request: str
    """Id of the training, hexadecimal"""
    version: str
    trained_to: int
    """The newest hour of its training data"""
    source: Mapping[str, str]
    """{"model_package_arn"}, or {"model_data", "image"}"""


@dataclass(frozen=True)
class EndpointState:
    status: str
    reason: str
    """Reason of a failure"""


@dataclass(frozen=True)
class InService:
    """Content of the parameter that names the endpoint in service."""

    now: Serving | None
    former: Serving | None


class Parameter(Protocol):
    def get(self) -> InService: ...

    def put(self, value: InService) -> None: ...


class Endpoints(Protocol):
    def create(self, name: str, source: Mapping[str, str]) -> None:
        """Create model, configuration and endpoint with this name, unless they exist."""
        ...

    def state(self, name: str) -> EndpointState: ...

    def names(self) -> Sequence[str]:
        """Return the names of all endpoints with the prefix, except endpoints that are being created."""
        ...

    def delete(self, name: str) -> None:
        """Delete endpoint, configuration and model with this name, if they exist."""
        ...


@dataclass(frozen=True)
class Stage:
    prefix: str
    """Prefix of the endpoints' names"""
    parameter: Parameter
    endpoints: Endpoints
    attempt: Callable[[str], None]
    """Sends the requests of `make_bids` to an endpoint, and checks the answers"""
    time: Callable[[], float]
    """Returns the seconds of a monotonic clock"""
    sleep: Callable[[float], None]


def version_of(event: Mapping[str, Any], trained_to: int) -> Version:
    """Return the version that an event describes. Raises `ValueError` that names an invalid field."""
    request = str(event.get("request", ""))
    if not re.fullmatch(r"[0-9a-f]{12,64}", request):
        raise ValueError(f"request must be 12 to 64 hexadecimal digits, got {request!r}")
    if not event.get("version"):
        raise ValueError("version must be given")
    if package := event.get("model_package_arn"):
        source = {"model_package_arn": str(package)}
    elif event.get("model_data") and event.get("image"):
        source = {"model_data": str(event["model_data"]), "image": str(event["image"])}
    else:
        raise ValueError("model_package_arn, or model_data and image, must be given")
    return Version(request, str(event["version"]), trained_to, source)


def deploy(stage: Stage, version: Version, seconds: float) -> Serving:
    """Deploy a version and return it. A repeated call continues where the last one ended.

    :param seconds: time in which the endpoint must be in service and tried
    Raises `DeploymentFailedError`. If the endpoint cannot be created or its trial fails, all resources of the
    version are deleted, except those of the previous version that is kept for a rollback.
    """
    name = f"{stage.prefix}-{version.request[:12]}"
    serving = Serving(name, version.version, version.trained_to)
    before = stage.parameter.get()
    if before.now is None or before.now.endpoint != name:
        try:
            stage.endpoints.create(name, version.source)
            _try(stage, name, stage.time() + seconds)
        except Exception:
            if before.former is None or before.former.endpoint != name:
                stage.endpoints.delete(name)
            raise
        stage.parameter.put(InService(serving, before.now))
    clean(stage)
    return serving


def _try(stage: Stage, name: str, until: float) -> None:
    while (state := stage.endpoints.state(name)).status != IN_SERVICE:
        if state.status == FAILED:
            raise DeploymentFailedError(f"the endpoint {name} has failed: {state.reason}")
        if stage.time() + POLL_SECONDS >= until:
            raise DeploymentFailedError(
                f"the endpoint {name} was still {state.status} at the end of the time limit"
            )
        stage.sleep(POLL_SECONDS)
    while True:
        try:
            stage.attempt(name)
            return
        except EndpointThrottledError as error:  # the endpoint is starting
            if stage.time() + WARM_SECONDS >= until:
                raise DeploymentFailedError(f"the endpoint {name} did not answer in time: {error}") from error
            stage.sleep(WARM_SECONDS)
        except (ModelAnswerError, ValueError) as error:
            raise DeploymentFailedError(f"the trial of the endpoint {name} failed: {error}") from error


def clean(stage: Stage) -> None:
    """Delete the endpoints that are neither in service nor the previous one."""
    kept = stage.parameter.get()
    names = {each.endpoint for each in (kept.now, kept.former) if each}
    for name in stage.endpoints.names():
        if SUFFIX.fullmatch(name.removeprefix(stage.prefix)) and name not in names:
            stage.endpoints.delete(name)


def roll_back(stage: Stage, version: str | None) -> Serving:
    """Bring the previous version back into service, and keep the current version as the previous one.

    :param version: the expected previous version, None: any; does nothing if this version is in service
    Raises `ValueError` if there is no such version, or its endpoint is not in service.
    """
    kept = stage.parameter.get()
    if version is not None and kept.now and kept.now.version == version:
        return kept.now
    if kept.former is None:
        raise ValueError("there is no previous version to roll back to")
    if version not in (None, kept.former.version):
        raise ValueError(f"version must be the previous one, {kept.former.version}, got {version}")
    state = stage.endpoints.state(kept.former.endpoint)
    if state.status != IN_SERVICE:
        raise ValueError(f"the endpoint {kept.former.endpoint} must be in service, is {state.status}")
    stage.parameter.put(InService(kept.former, kept.now))
    return kept.former
