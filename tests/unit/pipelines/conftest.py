"""Fixtures that replace the operations of processing and transform jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.sagemaker import api, http, pipelines  # noqa: F401 - http registers the operations
from tests.support.pipeline_world import PipelineWorld


@pytest.fixture(autouse=True)
def all_jobs_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("ProcessingJob", "TransformJob"):
        monkeypatch.setitem(api.OPERATIONS, f"Create{kind}", api.Operation(lambda *asked: None, None, ()))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineWorld]:
    found = PipelineWorld(tmp_path)
    for name in found.jobs():
        # The handler is looked up at each call, because a restart creates another world with the same records
        monkeypatch.setitem(api.OPERATIONS, name, _of_platform(name))
    yield found
    pipelines.shutdown(found.store)


def _of_platform(name: str) -> api.Operation:
    def handle(context: api.Context, params: dict[str, Any]) -> Any:
        return context.platform.jobs()[name].handler(context, params)  # type: ignore[attr-defined]

    return api.Operation(handle, None, ())
