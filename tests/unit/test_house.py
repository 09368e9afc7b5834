"""Rules for the structure of the project: allowed imports, and allowed files in each room."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import architectures
from tooling import envs

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = {path.parent.name for path in ROOT.glob("containers/*/*/*/__init__.py")} | {"toolkit"}
"""Names of the Python packages in the container images. No two images have a package of the same name."""

# maps each room (a top-level directory) to the rooms of this project that it may import
MAY_IMPORT = {
    "settings": {"settings", "architectures"},
    "stacks": {"stacks", "groundplan", "settings"},
    "constructs": {"groundplan"},
    "runtime": set(),
    "containers": {"toolkit"},
    "scenarios": {"scenarios", "tooling"},
    "tooling": {"tooling"},
    "local": {"local", "tooling"},
    "benchmarks": {
        "benchmarks",
        "tooling",
        "scenarios",
        "local",
        *PACKAGES,
        # benchmarks deploy stacks of this project with other container images
        "app",
        "architectures",
        "stacks",
        "settings",
    },
    "documentation": {"documentation", "architectures", "groundplan", "scenarios", "settings", "tooling"},
    "demo": {"demo", "architectures", "local", "scenarios", "tooling", "settings"},
}
# `import constructs` imports the PyPI package; the directory `constructs/` has the package `groundplan`.
ROOMS = {*MAY_IMPORT, "groundplan", "architectures", "app", *PACKAGES} - {"constructs"}


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
def test_room_imports_allowed_rooms_only(room):
    wrong = {
        str(path.relative_to(ROOT)): sorted(imported(path) - MAY_IMPORT[room])
        for path in tracked(f"{room}/*.py")
        if imported(path) - MAY_IMPORT[room]
    }
    assert not wrong


@pytest.mark.parametrize(
    ("folder", "module"),
    [
        ("", "architectures"),
        *(
            ("containers", f"toolkit.{path.stem}")
            for path in sorted(ROOT.glob("containers/toolkit/[!_]*.py"))
        ),
    ],
)
def test_standalone_modules_import_the_standard_library_only(folder, module):
    # given a Python without site-packages
    done = subprocess.run([sys.executable, "-S", "-c", f"import {module}"], cwd=ROOT / folder)
    assert done.returncode == 0


RUNTIMES = sorted(path.parent.name for path in ROOT.glob("runtime/*/core"))
AWS_LIBRARIES = ("boto3", "botocore", "aws_lambda_powertools", "mypy_boto3_")


def runtime_imports(name: str) -> dict[str, set[str]]:
    """Return, for each module of a runtime package, all its imports, also those in functions and for
    types."""
    found = {}
    for path in tracked(f"runtime/{name}/*.py"):
        module = ".".join(path.relative_to(ROOT / "runtime").with_suffix("").parts).removesuffix(".__init__")
        found[module] = words = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                words |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.module, path
                assert not node.level, path
                words |= {node.module} | {f"{node.module}.{each.name}" for each in node.names}
    return found


def test_every_runtime_package_has_the_three_rooms():
    names = {path.parent.name for path in ROOT.glob("runtime/*/__init__.py")}
    assert names == set(RUNTIMES)
    for name in names:
        rooms = {path.parent.name for path in ROOT.glob(f"runtime/{name}/*/__init__.py")}
        assert rooms - {"feeds"} == {"handlers", "core", "aws"}


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize(("room", "forbidden"), [("core", {"aws", "handlers"}), ("aws", {"handlers"})])
def test_lower_runtime_room_imports_no_higher_one(name, room, forbidden):
    wrong = {
        module: sorted(words)
        for module, imported_ in runtime_imports(name).items()
        if module.startswith(f"{name}.{room}")
        and (words := {word for word in imported_ if set(word.split(".")[1:2]) & forbidden})
    }
    assert not wrong


@pytest.mark.parametrize("name", RUNTIMES)
def test_runtime_core_imports_no_aws_library(name):
    wrong = {
        module: sorted(words)
        for module, imported_ in runtime_imports(name).items()
        if module.startswith(f"{name}.core")
        and (words := {word for word in imported_ if word.startswith(AWS_LIBRARIES)})
    }
    assert not wrong


def imported_at_run_time(tree: ast.AST) -> set[str]:
    """Return the packages that a module imports outside of `if TYPE_CHECKING`."""
    found: set[str] = set()
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            left += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        left += ast.iter_child_nodes(node)
    return found


def test_stubs_are_imported_for_types_only():
    # Lambda and the containers do not have the type stubs
    wrong = {
        str(path.relative_to(ROOT)): stubs
        for path in tracked("*.py")
        if (
            stubs := [
                name
                for name in imported_at_run_time(ast.parse(path.read_text()))
                if name.startswith("mypy_boto3_")
            ]
        )
    }
    assert not wrong


@pytest.mark.parametrize("name", architectures.BY_NAME)
def test_architecture_imports_nothing_of_another(name):
    others = [other for other in architectures.BY_NAME if other != name]
    for path in tracked(f"*/{name}.py", f"*/{name}/*.py"):
        words = set(re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE))
        foreign = [word for word in words if set(word.split(".")) & set(others)]
        assert not foreign, path


def modules() -> dict[str, Path]:
    """Return the project's modules by their dotted names."""
    images = [path.parent for path in ROOT.glob("containers/*/*/Dockerfile")]
    bases = [*images, *(ROOT / name for name in ("constructs", "runtime", "containers")), ROOT]
    found = {}
    for path in tracked("*.py"):
        if path.is_relative_to(ROOT / "tests/support/sixth"):  # this folder is a separate project
            continue
        base = next(base for base in bases if path.is_relative_to(base))
        found[".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imported_modules(name: str, known: dict[str, Path]) -> set[str]:
    """Return the project's modules that a module imports at the top, in functions, or for types."""
    package = name.split(".") if known[name].name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(known[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            members = [f"{source}.{alias.name}" for alias in node.names]
            found |= {member if member in known else source for member in members}
    return found & known.keys() - {name}


def test_environments_that_the_code_names_exist():
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in tracked("*.py")
        if not path.is_relative_to(ROOT / "tests/unit")
        for name in re.findall(r"envs\.environment\(\s*\"([\w-]+)\"", path.read_text())
    }
    assert len(named) > 10
    assert [each for each in sorted(named) if each[1] not in envs.ENVIRONMENTS] == []


def test_no_modules_import_each_other_in_a_circle():
    known = modules()
    order = graphlib.TopologicalSorter({name: imported_modules(name, known) for name in known})
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_class_name_has_one_meaning_in_a_package():
    places: dict[tuple[str, str], list[str]] = {}
    for name, path in modules().items():
        package = name.partition(".")[0]
        if path.relative_to(ROOT).parts[0] in ("tests", "runtime"):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault((package, node.name), []).append(name)
    assert not {key: names for key, names in places.items() if len(names) > 1}


def test_no_test_imports_from_a_module_of_tests():
    wrong = {
        str(path.relative_to(ROOT)): node.module
        for path in tracked("tests/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2].startswith("test_")
    }
    assert not wrong


def test_no_shared_test_names_an_architecture():
    names = {
        *architectures.BY_NAME,
        *(path.parent.parent.name for path in ROOT.glob("containers/*/*/Dockerfile")),
    }
    words = {*names, *(name.replace("_", "-") for name in names), *PACKAGES} - {"toolkit"}
    named = {
        str(path.relative_to(ROOT)): sorted(word for word in words if word in path.read_text())
        for path in tracked("tests/*.py")
        if not names & set(path.relative_to(ROOT).parts)
    }
    assert not {path: found for path, found in named.items() if found}


def test_constructs_folder_does_not_shadow_the_package_constructs():
    assert not (ROOT / "constructs" / "__init__.py").exists()


def test_code_for_aws_does_not_mention_the_local_cloud():
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
