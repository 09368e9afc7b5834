"""Arguments that `make` passes to the CDK, and the checks that `make test` runs."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

import architectures
from tooling import envs

NAME = architectures.ALL[0].name
PYTHON = """#!/bin/sh
exec python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
"""


@pytest.mark.parametrize("target", ["synth", "diff", "bootstrap", "deploy", "destroy"])
@pytest.mark.parametrize(
    ("chosen", "settings"),
    [
        ("", []),
        ("a.b=1 c.d=x,y", ["a.b=1", "c.d=x,y"]),
        ("'a.b=rate(7 days)' c.d=2", ["a.b=rate(7 days)", "c.d=2"]),
        ("'a.b=cron(0 6 ? * MON *)'", ["a.b=cron(0 6 ? * MON *)"]),
    ],
)
def test_each_setting_is_one_argument(tmp_path: Path, target: str, chosen: str, settings: list[str]):
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o700)
    given = [f"PYTHON={python}", f"app={tmp_path}", f"STACK={NAME}", f"SET={chosen}"]
    done = subprocess.run(["make", target, *given], cwd=envs.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if '"tooling.cdk"' in line]
    arguments = json.loads(line)
    found = [value for flag, value in pairwise(arguments) if flag == "-c"]
    assert found == ["env=dev", f"only={NAME}", *settings]
    if target != "bootstrap":
        assert f"groundplan-dev-{NAME.replace('_', '-')}" in arguments


@pytest.mark.parametrize(
    ("tests", "linted"),
    [("tests", True), ("tests/unit", False), ("-m 'synth' tests", False)],
)
def test_a_part_of_the_tests_runs_without_lint(tests: str, linted: bool) -> None:
    given = ["make", "--dry-run", "test", f"TESTS={tests}"]
    done = subprocess.run(given, cwd=envs.ROOT, capture_output=True, text=True, check=True)
    assert ("ruff check" in done.stdout) == linted
    assert f"pytest -n 3 --dist loadfile --no-loadscope-reorder {tests}" in done.stdout
