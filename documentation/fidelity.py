"""Update `local/fidelity.toml` and `docs/local-cloud-fidelity.md`, which list what the local cloud covers.

    make pages                                # write the tables of the page from the file
    python -m documentation.fidelity --update [TESTS]  # run local tests, and add what they used

The file has an entry for each CloudFormation resource type and each IAM action. The local tests fail if the
local cloud answers a call that has no entry. An entry that `--update` adds has no class: write the class into
the file, then run `make pages`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from botocore.session import Session

from tooling import envs

FILE = envs.ROOT / "local" / "fidelity.toml"
PAGE = envs.ROOT / "docs" / "local-cloud-fidelity.md"
FOLDER = "GROUNDPLAN_RECORDS"
"""Environment variable with the folder for the records of a test run, one file for each pytest worker."""
UPDATE = ".groundplan/envs/app/bin/python -m documentation.fidelity --update"
TESTS = "tests/local"
CLASSES = ("live", "recorded", "refused")
HEAD = """\
# What the local cloud does with each CloudFormation resource type and each IAM action.
# live: it has the effect that it has on AWS, apart from `missing`. recorded: stored and returned, without the
# effect in `missing`. refused: fails with an error that names it. `test` is the test that shows it, or the
# test file that makes the call. tests/README.md describes how to add entries.
"""
SECTION = re.compile(r"(?<=<!-- from local/fidelity.toml -->\n).*(?=<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One resource type or action."""

    kind: str
    """One of `CLASSES`; empty: not yet decided"""
    test: str
    missing: str = ""


Entries = dict[str, Entry]


def read(path: Path = FILE) -> Entries:
    """Return the file's entries, by resource type or action. Raises `ValueError` for an invalid entry."""
    tables = tomllib.loads(path.read_text())
    entries = {}
    for name, given in (pair for table in tables.values() for pair in table.items()):
        entries[name] = Entry(given.pop("class", ""), given.pop("test", ""), given.pop("missing", ""))
        if given:
            raise ValueError(f"{name} must have class, test and missing only, got {', '.join(given)}")
    return entries


def problems(name: str, entry: Entry) -> Iterator[str]:
    """Yield the errors in an entry."""
    if entry.kind not in CLASSES:
        yield f"class of {name} must be one of {', '.join(CLASSES)}, got {entry.kind!r}"
    if entry.kind == "recorded" and not entry.missing:
        yield f"missing of {name} must name the effect that is missing, got ''"
    file, _, test = entry.test.partition("::")
    path = envs.ROOT / file
    text = path.read_text() if path.is_file() else ""
    if not text or (test and not re.search(rf"^def {re.escape(test)}\(", text, re.MULTILINE)):
        yield f"test of {name} must be a file of tests or a test in it, got {entry.test!r}"


def write(entries: Mapping[str, Entry], path: Path = FILE) -> None:
    """Write the entries, one line each, sorted."""
    lines = [HEAD]
    for title, chosen in (("types", True), ("calls", False)):
        lines.append(f"[{title}]")
        for name in sorted(name for name in entries if is_type(name) is chosen):
            entry = entries[name]
            values = {"class": entry.kind, "test": entry.test, "missing": entry.missing}
            text = ", ".join(
                f"{key} = {json.dumps(value, ensure_ascii=False)}"
                for key, value in values.items()
                if value or key != "missing"
            )
            lines.append(f"{json.dumps(name)} = {{ {text} }}")
        lines.append("")
    path.write_text("\n".join(lines[:-1]) + "\n")


def is_type(name: str) -> bool:
    return "::" in name


def observed(records: Iterable[str]) -> dict[str, str]:
    """Return the resource types and actions that tests used, each with the first test file that used it.

    :param records: texts in which each test file's path is followed by the types and actions that its tests
        used
    """
    found: dict[str, str] = {}
    for text in records:
        file = ""
        for line in text.splitlines():
            if line.endswith(".py"):
                file = line
            else:
                found.setdefault(line, file)
    return found


def unexpected(found: Iterable[str], entries: Mapping[str, Entry]) -> list[str]:
    """Return the types and actions in `found` that have no entry, or whose class is `refused`."""
    return sorted(name for name in found if name not in entries or entries[name].kind == "refused")


def update(tests: Sequence[str]) -> int:
    """Run tests, and add an entry for each type and action that has none. Return pytest's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", *(tests or ["-n", "3", "--dist", "loadfile", TESTS])]
        done = subprocess.run(command, cwd=envs.ROOT, env=os.environ | {FOLDER: folder})
        found = observed(path.read_text() for path in sorted(Path(folder).iterdir()))
    entries = read()
    added = {name: Entry("", file) for name, file in found.items() if name not in entries}
    write(entries | added)
    print(f"added, without a class: {', '.join(sorted(added)) or 'nothing'}")
    if not tests:
        unseen = {name for name, entry in entries.items() if entry.kind != "refused"} - set(found)
        print(f"not observed: {', '.join(sorted(unseen)) or 'nothing'}")
    return done.returncode


# The page ---------------------------------------------------------------------------------------------


@functools.cache
def operations(service: str) -> list[str]:
    """Return the names of a service's operations in botocore."""
    return Session().get_service_model(service).operation_names


def unbuilt(entries: Mapping[str, Entry]) -> list[str]:
    """Return the operations of SageMaker that the local cloud refuses."""
    return [
        name
        for name in operations("sagemaker")
        if entries.get(f"sagemaker:{name}", Entry("refused", "")).kind == "refused"
    ]


def tables(entries: Mapping[str, Entry]) -> str:
    """Return the generated section of `docs/local-cloud-fidelity.md`."""
    lines = ["## Resource types", "", "| resource type | class | what is missing | test |"]
    lines.append("| --- | --- | --- | --- |")
    for name, entry in sorted(entries.items()):
        if is_type(name):
            file, _, test = entry.test.partition("::")
            label = test or Path(file).name
            lines.append(f"| `{name}` | {entry.kind} | {entry.missing} | [`{label}`](../{file}) |")
    lines += ["", "## API calls", "", "| service | class | calls | what is missing |"]
    lines.append("| --- | --- | --- | --- |")
    groups: dict[tuple[str, int, str], list[str]] = defaultdict(list)
    for name, entry in sorted(entries.items()):
        if not is_type(name):
            service, _, action = name.partition(":")
            groups[service, CLASSES.index(entry.kind), entry.missing].append(action)
    for (service, kind, missing), actions in sorted(groups.items()):
        names = ", ".join(f"`{action}`" for action in actions)
        lines.append(f"| {service} | {CLASSES[kind]} | {names} | {missing} |")
    every, refused = operations("sagemaker"), unbuilt(entries)
    lines += [
        "",
        f"Of the {len(every)} operations of SageMaker in botocore, {len(every) - len(refused)} are live or"
        f" recorded. The other {len(refused)} are refused by name; the table lists those that a policy"
        " allows.",
        "",
    ]
    return "\n".join(lines)


def page(text: str, entries: Mapping[str, Entry]) -> str:
    """Return the text of `docs/local-cloud-fidelity.md` with the current tables."""
    return SECTION.sub(lambda _: f"\n{tables(entries)}\n", text)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="documentation.fidelity", description="Fidelity of the local cloud."
    )
    parser.add_argument("--update", action="store_true", help="run tests and add what they called")
    asked, tests = parser.parse_known_args()
    if asked.update:
        return update(tests)
    entries = read()
    if found := [each for name, entry in entries.items() for each in problems(name, entry)]:
        print("\n".join(found), file=sys.stderr)
        return 1
    PAGE.write_text(page(PAGE.read_text(), entries))
    print(f"  {PAGE.relative_to(envs.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
