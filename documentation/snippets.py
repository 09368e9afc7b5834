"""Check the commands and code in the documentation against the project: `make docs` and the tests run it.

A snippet is a fenced code block or inline code of a Markdown file. The check covers make targets and their
variables, settings in make's `SET`, Python modules and imports, file paths, operations and options of the AWS
CLI, and JSON. Upper-case words and `...` are placeholders.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import botocore.session
from botocore import xform_name

import architectures
from settings import load
from tooling.envs import ROOT

FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PLACEHOLDER = re.compile(r"\.\.\.|…|\$|[<>*{}]|\b[A-Z][A-Z_]*\b")
CUSTOM = {"logs tail", "s3 cp", "s3 ls", "s3 sync", "s3 rm", "s3 rb", "configure export-credentials"}
"""Commands of the AWS CLI that are not operations of a service"""
GENERAL = {"region", "output", "query", "profile", "endpoint-url", "no-cli-pager", "cli-binary-format"}
"""Options of every command of the AWS CLI"""
CHOICES = {
    "STACK": set(architectures.BY_NAME),
    "ARCH": set(architectures.BY_NAME),
    "ENV": {"dev", "prod"},
    "IAM": {"on", "off"},
}
"""Allowed values of variables of make"""


def documents() -> list[Path]:
    """Return the Markdown files of the project, without those in `docs/upstream/`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / path for path in listed.stdout.split() if not path.startswith("docs/upstream/")]


def findings(text: str) -> Iterator[str]:
    """Yield an error message for each wrong snippet of a Markdown text."""
    for kind, code in FENCED.findall(text):
        if kind == "python":
            yield from _python(code)
        elif kind == "json":
            yield from _json(code)
        elif kind in ("sh", "bash", ""):
            for line in code.replace("\\\n", " ").splitlines():
                yield from _command(line)
    for code in INLINE.findall(FENCED.sub("", text)):
        yield from _command(code)
        yield from _path(code)


def _command(line: str) -> Iterator[str]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a quote that ends in a later line
        words = line.split()
    for number, word in enumerate(words):
        if word == "-m" and number and "python" in words[number - 1]:
            yield from _module(words[number + 1])
    if words[:1] == ["make"]:
        yield from _make(words[1:])
    elif words[:1] == ["aws"] and len(words) > 2:
        yield from _aws(words[1], words[2], words[3:])
    elif words and words[0].startswith("SET="):
        yield from _settings(words[0].removeprefix("SET="), "dev")
    if "# SET=" in line:
        yield from _settings(shlex.split(line.partition("# SET=")[2])[0], "dev")


def _make(words: list[str]) -> Iterator[str]:
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    for target in (word for word in words if "=" not in word and not PLACEHOLDER.search(word)):
        if target not in _targets():
            yield f"make {target}: the Makefile has no such target"
    for name, value in variables.items():
        allowed = CHOICES.get(name)
        if allowed and value not in allowed and not PLACEHOLDER.search(value):
            yield f"{name} must be one of {', '.join(sorted(allowed))}, got {value}"
    yield from _settings(variables.get("SET", ""), variables.get("ENV", "dev"))


@functools.cache
def _targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _settings(given: str, env: str) -> Iterator[str]:
    for choice in shlex.split(given):
        name, _, value = choice.partition("=")
        if not PLACEHOLDER.search(name) and not PLACEHOLDER.search(value):
            try:
                load({"env": env, name: value})
            except ValueError as error:
                yield f"SET {choice}: {error}"


def _module(name: str) -> Iterator[str]:
    if importlib.util.find_spec(name.partition(".")[0]) and not (ROOT / name.partition(".")[0]).exists():
        return  # an installed package
    path = name.replace(".", "/")
    folders = (ROOT, *(ROOT / "containers").glob("*/*"))
    if not any((folder / f).exists() for folder in folders for f in (f"{path}.py", f"{path}/__main__.py")):
        yield f"python -m {name}: there is no such module"


def _python(code: str) -> Iterator[str]:
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        yield f"Python: {error}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            try:
                module = importlib.import_module(node.module)
            except ImportError as error:
                yield f"Python: {error}"
                continue
            for each in node.names:
                found = hasattr(module, each.name) or importlib.util.find_spec(f"{node.module}.{each.name}")
                if not found:
                    yield f"Python: {node.module} has no {each.name}"


def _json(code: str) -> Iterator[str]:
    decoder, rest = json.JSONDecoder(), code.strip()
    while rest:
        try:
            _, end = decoder.raw_decode(rest)
        except ValueError as error:
            if not re.search(r"\.\.\.|…", code):
                yield f"JSON: {error} in {rest[:60]!r}"
            return
        rest = rest[end:].strip()


def _path(code: str) -> Iterator[str]:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", code) or PLACEHOLDER.search(code):
        return
    first, last = code.split("/")[0], code.rstrip("/").split("/")[-1]
    ours = (ROOT / first).is_dir() and first != "out" and not first.startswith(".")
    if ours and "." in last and not (ROOT / code).exists():
        yield f"{code}: there is no such file"


def _aws(service: str, operation: str, words: list[str]) -> Iterator[str]:
    if f"{service} {operation}" in CUSTOM or PLACEHOLDER.search(operation):
        return
    session = botocore.session.get_session()
    if service not in session.get_available_services():
        yield f"aws {service}: there is no such service"
        return
    model = session.get_service_model("s3" if service == "s3api" else service)
    names = {xform_name(name, "-"): name for name in model.operation_names}
    if operation not in names:
        yield f"aws {service} {operation}: there is no such operation"
        return
    shape = model.operation_model(names[operation]).input_shape
    known = GENERAL | {xform_name(member, "-") for member in (shape.members if shape else {})}
    for option in (word.removeprefix("--") for word in words if word.startswith("--")):
        if option.partition("=")[0].removeprefix("no-") not in known and option not in known:
            yield f"aws {service} {operation} --{option}: there is no such option"


def main() -> int:
    found = [
        f"{path.relative_to(ROOT)}: {finding}"
        for path in documents()
        for finding in findings(path.read_text())
    ]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
