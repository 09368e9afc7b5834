"""A container that serves a transform job."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.sagemaker.api import Context
from local.sagemaker.jobs.kinds import TRANSFORM
from local.sagemaker.logs import LogWriter
from local.sagemaker.serving_container import ServingContainer
from local.sagemaker.store import Record

STRATEGIES = {"SingleRecord": "SINGLE_RECORD", "MultiRecord": "MULTI_RECORD"}
"""Values of BatchStrategy in requests, and the spelling of the same values for containers."""
PARAMETERS_SECONDS = 5.0
MEGABYTE = 1024 * 1024


class BatchContainer(ServingContainer):
    """One container of a transform job. The contract is
    https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-batch-code.html"""

    folder = TRANSFORM.folder
    see = "See job logs for more information"

    def __init__(self, context: Context, spec: Record, logs: LogWriter, job: str):
        """:param spec: record with Container, ExecutionRoleArn and InitialInstanceCount"""
        super().__init__(context, spec, logs, f"{job}/i-{uuid.uuid4().hex[:17]}-{int(time.time())}")

    def unhealthy(self) -> str:
        return (
            "Model container failed to respond to ping; Please ensure /ping endpoint is implemented and "
            "responds with an HTTP 200 status code."
        )

    def parameters(self) -> dict[str, Any]:
        """Return the container's response to /execution-parameters; empty if it does not implement it."""
        try:
            reply = self.request("GET", "/execution-parameters", {}, b"", PARAMETERS_SECONDS)
            said = json.loads(reply.body) if reply.status == 200 else {}
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        return said if isinstance(said, dict) else {}


def environment(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables of a transform job's containers."""
    values = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": params.get("MaxPayloadInMB"),
        "SAGEMAKER_BATCH_STRATEGY": STRATEGIES.get(params.get("BatchStrategy", "")),
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": params.get("MaxConcurrentTransforms"),
    }
    given = params.get("Environment", {})
    return given | {name: str(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Limits:
    """Limits of the requests to a container."""

    concurrent: int
    strategy: str
    megabytes: int

    @property
    def bytes(self) -> int:
        return self.megabytes * MEGABYTE

    @classmethod
    def of(cls, params: Mapping[str, Any], said: Mapping[str, Any]) -> Limits:
        """Return the limits: each from the job's request, else from the container, else AWS's default.

        :param params: the job's request
        :param said: the container's execution parameters
        """
        strategies = {own: name for name, own in STRATEGIES.items()}
        return cls(
            params.get("MaxConcurrentTransforms") or _positive(said, "MaxConcurrentTransforms") or 1,
            params.get("BatchStrategy") or strategies.get(str(said.get("BatchStrategy")), "MultiRecord"),
            params.get("MaxPayloadInMB") or _positive(said, "MaxPayloadInMB") or 6,
        )

    def __str__(self) -> str:
        return (
            f"MaxConcurrentTransforms={self.concurrent}, MaxPayloadInMB={self.megabytes}, "
            f"BatchStrategy={STRATEGIES[self.strategy]}"
        )


def _positive(said: Mapping[str, Any], name: str) -> int | None:
    value = said.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
