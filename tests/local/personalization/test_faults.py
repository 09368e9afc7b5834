"""The benchmark of requests with injected faults, on the deployed stack, with few requests."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.personalization.faults.injection import KINDS
from tooling import envs

REQUESTS = 16


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Figures of a short benchmark run."""
    file = tmp_path_factory.mktemp("faults") / "figures.json"
    command = [sys.executable, "-m", "benchmarks.personalization.faults", "--json", str(file)]
    done = subprocess.run(
        [*command, "--requests", str(REQUESTS), "--seed", "4", "--stale", "5"],
        cwd=envs.ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return json.loads(file.read_text())


def test_each_request_ends_once_without_duplicate_training(figures: dict[str, Any]) -> None:
    found = figures["metrics"]
    assert found["requests"] == REQUESTS
    assert found["ready"] + found["failed"] + found["deleted"] == REQUESTS
    for name in ("lost_requests", "duplicate_jobs", "unexplained_retries", "wrong_adapters"):
        assert found[name] == 0, figures["found"]


def test_no_data_is_left_behind_and_every_user_is_notified(figures: dict[str, Any]) -> None:
    for name in ("left_behind", "counters_off", "not_notified"):
        assert figures["metrics"][name] == 0, figures["found"]


def test_faults_were_injected(figures: dict[str, Any]) -> None:
    struck = figures["faults"]
    assert set(struck) >= {kind.name for kind in KINDS}
    assert struck["cloud_crashes"] == 2
    assert struck["functions_killed"] > 0
    assert sum(struck[kind.name] > 0 for kind in KINDS) >= len(KINDS) // 2
    assert (
        sum(map(sum, (places.values() for places in figures["killed_before_write"].values())))
        == (struck["functions_killed"])
    )
