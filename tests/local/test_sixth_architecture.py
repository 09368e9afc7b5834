"""A new architecture needs its own folders and one entry in `architectures.py`, and no other edit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tooling import envs

SIXTH = envs.ROOT / "tests" / "support" / "sixth"
ENTRY = """    Architecture(
        name="notes",
        title="Short notes",
        sentence="A function keeps notes in a bucket.",
        settings="settings.notes:Notes",
        stack="stacks.notes.stack:NotesStack",
        scenario="scenarios.notes",
    ),
)
BY_NAME"""
NEVER = 900


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with one more architecture."""
    folder = tmp_path_factory.mktemp("six") / "groundplan"
    shown = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=envs.ROOT, capture_output=True, text=True
    )
    for name in shown.stdout.splitlines():
        if (source := envs.ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    shutil.copytree(SIXTH, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    known = (folder / "architectures.py").read_text()
    listed = known.replace(")\nBY_NAME", ENTRY)
    assert listed != known
    (folder / "architectures.py").write_text(listed)
    return folder


def run(project: Path, *command: str) -> str:
    """Run a command in the copy, which has separate environments; return its output.

    The CDK validates the new stack's template in `dev` only. Other tests validate the templates of the other
    stacks.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith(("GROUNDPLAN_", "AWS_"))}
    done = subprocess.run(
        command,
        cwd=project,
        env=own | {"PYTHON": str(envs.MACHINE_PYTHON), "CDK_VALIDATION": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=NEVER,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


@pytest.mark.timeout(1800)
def test_sixth_architecture_needs_its_folders_and_one_entry(project: Path) -> None:
    # when the demonstration of the new architecture runs, then the architecture is synthesized, deployed and
    # used with IAM policies enforced
    run(project, "make", "demo", "ARCH=notes")
    results = json.loads((project / "out" / "results.json").read_text())
    assert results["notes"]["status"] == "ok"
    assert results["notes"]["metrics"]["kept"] == 1
    assert "Short notes" in (project / "out" / "report" / "index.html").read_text()
    # when the tests with the mark of the new architecture run
    python = str(project / ".groundplan" / "envs" / "app" / "bin" / "python")
    said = run(project, python, "-m", "pytest", "-v", "-m", "notes", "tests", "--snapshot-update")
    # then these are its own tests and the tests for each architecture, which find it by its folders and by
    # the list in `architectures.py`
    for passed in (
        "test_note_that_is_too_long",
        "imports_nothing_of_another[notes]",
        "agreed_on[notes]",
        "replaces_no_retained_resource[notes-prod]",
        "at_most_eight_resources[notes-prod]",
        "share_no_name[notes]",
        "has_an_invalid_value_to_test[notes]",
        "refused_with_the_allowed_ones[notes-longest-0]",
    ):
        assert any(passed in line and "PASSED" in line for line in said.splitlines()), said
    # and tests that belong to no architecture pass, because they do not depend on the number of architectures
    run(project, python, "-m", "pytest", "tests/unit/test_settings.py", "tests/synth/test_registries.py")
    # and the settings of the new architecture are checked like those of the other architectures
    refused = subprocess.run(
        [python, "app.py"],
        cwd=project,
        env=os.environ | {"CDK_CONTEXT_JSON": '{"notes.longest": "0"}'},
        capture_output=True,
        text=True,
    )
    assert "notes.longest must be a whole number from 1 to 10000, got '0'" in refused.stderr
