"""The rules that keep the house in order: who may import whom, and what may stand where."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# room -> the rooms of this project it may import
MAY_IMPORT = {
    "stacks": {"stacks", "groundplan", "settings"},
    "constructs": {"groundplan"},
    "runtime": set(),
    "containers": set(),
    "scenarios": {"scenarios", "tooling"},
    "tooling": {"tooling"},
    "local": {"local", "tooling"},
    "benchmarks": {
        "benchmarks",
        "tooling",
        "scenarios",
        "local",
        "snowflake_xgboost",
        "personalization_finetune",
        "personalization_serve",
        # for the project's own stack with other containers
        "app",
        "stacks",
    },
    "demo": {"demo", "local", "scenarios", "tooling", "settings"},
}
# `import constructs` is the PyPI package: the room of that name holds `groundplan`.
CONTAINERS = {"snowflake_xgboost", "personalization_finetune", "personalization_serve"}
ROOMS = {*MAY_IMPORT, "groundplan", "settings", "app", *CONTAINERS} - {"constructs"}


def tracked(*patterns: str) -> list[Path]:
    shown = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns], cwd=ROOT, capture_output=True, text=True
    )
    return [ROOT / line for line in shown.stdout.splitlines() if (ROOT / line).is_file()]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found & ROOMS


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_room_imports_what_it_may_not_know(room):
    own = {path.name for path in (ROOT / room).iterdir()} if room in ("runtime", "containers") else set()
    wrong = {
        str(path.relative_to(ROOT)): sorted(imported(path) - MAY_IMPORT[room] - own)
        for path in tracked(f"{room}/*.py")
        if imported(path) - MAY_IMPORT[room] - own
    }
    assert not wrong


def test_the_folder_constructs_does_not_shadow_the_package_the_cdk_imports():
    assert not (ROOT / "constructs" / "__init__.py").exists()


def test_nothing_that_goes_to_aws_knows_of_the_local_cloud():
    word = re.compile(r"ministack|fakesnow|localhost|local cloud|000000000000", re.IGNORECASE)
    hits = [
        f"{path.relative_to(ROOT)}:{number}"
        for room in ("stacks", "constructs", "runtime", "containers", "scenarios")
        for path in tracked(f"{room}/*.py", f"{room}/*/Dockerfile", f"{room}/*.json")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if word.search(line)
    ]
    assert not hits


def test_every_requirement_is_locked():
    sources = [ROOT / "requirements.in", *tracked("*requirements.in")]
    loose = [
        f"{path.relative_to(ROOT)}: {line}"
        for source in sources
        for path in [source.with_suffix(".txt")]
        for line in path.read_text().splitlines()
        if line and not line.startswith((" ", "#", "-e ")) and "==" not in line
    ]
    assert not loose
