"""Operations that another package registers stand in for those of processing and transform jobs."""

from __future__ import annotations

import pytest

from local.sagemaker import api, http  # noqa: F401 - registers the operations


@pytest.fixture(autouse=True)
def all_jobs_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("ProcessingJob", "TransformJob"):
        monkeypatch.setitem(api.OPERATIONS, f"Create{kind}", api.Operation(lambda *asked: None, None, ()))
