"""The service models come from the botocore version that the project locks."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.sagemaker import service_models
from tooling import envs


def test_service_models_are_the_locked_botocores() -> None:
    folder = service_models.folder()
    assert (folder.parents[1] / f"botocore-{service_models.locked_version()}.dist-info").is_dir()
    assert "CompletedWithFailures" in service_models.service_model().shape_for("PipelineExecutionStatus").enum


def test_another_botocore_than_the_locked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given an environment with another version of botocore
    monkeypatch.setenv("GROUNDPLAN_HOME", str(tmp_path))
    (envs.site_packages("app") / "botocore-1.43.106.dist-info").mkdir(parents=True)
    # when, then
    locked = service_models.locked_version()
    with pytest.raises(RuntimeError, match=f"botocore {locked} is not in .*: run `make setup`"):
        service_models.folder()
