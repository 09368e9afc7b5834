"""The local cloud's server has an older botocore, but reads the service models of the botocore that the
project locks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

PROGRAM = """
from local.sagemaker.api import service_model
print(service_model().shape_for("PipelineExecutionStatus").enum)
print(service_model().shape_for("PlatformIdentifier").metadata["pattern"])
"""


def test_server_reads_the_locked_service_models(
    in_the_clouds_environment: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    # when the local cloud's Python environment loads the service models
    statuses, platforms = in_the_clouds_environment(PROGRAM).stdout.splitlines()
    # then the models have values that the botocore of that environment lacks
    assert "CompletedWithFailures" in statuses
    assert "notebook-al2023-v2" in platforms
