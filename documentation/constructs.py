"""Run the examples in the pages of the constructs, `docs/constructs/NAME.md`, and write generated sections.

The sections `Props` and `Attributes and methods` of a page are generated from docstrings and annotations,
which the library griffe reads. The picture `NAME.svg` shows the resources that the page's examples create.
`make pages` writes the sections and the pictures.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import griffe
from aws_cdk import App, CfnResource, Environment, Stack
from constructs import Construct

import groundplan
from documentation import diagram
from tooling.envs import ROOT

PAGES = ROOT / "docs" / "constructs"
WRITTEN = "<!-- written by `make pages` -->"
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
DEFINITION = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
DEFAULT = re.compile(r"\s*Default: (.*?)\.(?=\s|$)", re.DOTALL)
FACTORY = re.compile(r"field\(default_factory=(?:lambda: )?(.*)\)$", re.DOTALL)
EMPTY = {"dict": "none", "list": "none", "()": "none", "None": "none"}
"""Text on the pages for these default values in the source code"""
GIVEN = {
    "openapi.json": json.dumps(
        {
            "openapi": "3.0.3",
            "info": {"title": "shop", "version": "1"},
            "paths": {"/api/orders": {"get": {"responses": {"200": {"description": "the orders"}}}}},
        }
    ),
    "page/index.html": "<!doctype html><title>Shop</title>",
    "code/handler.py": "def handle(event, context):\n    return event\n",
    "code/requirements.txt": "",
    "image/Dockerfile": "FROM scratch\n",
}
"""Files that the pages' examples read, with their content"""


def names() -> list[str]:
    """Return the names of all public constructs."""
    public = {name: getattr(groundplan, name) for name in groundplan.__all__}
    return [name for name, item in public.items() if isinstance(item, type) and issubclass(item, Construct)]


def page(name: str) -> Path:
    """Return the path of a construct's page."""
    return PAGES / f"{name}.md"


# Usage


@functools.cache
def pictures() -> dict[str, str]:
    """Return, by construct, the diagram of the resources that the construct creates in its page's examples.

    The examples of all pages run in one process. Its working directory has the files in `GIVEN` and, as
    `definition.json`, the pipeline definition from the page of `ModelPipeline`.
    """
    (definition,) = DEFINITION.findall(page("ModelPipeline").read_text())
    given = GIVEN | {"definition.json": definition}
    with tempfile.TemporaryDirectory() as folder:
        for path, content in given.items():
            (Path(folder) / path).parent.mkdir(exist_ok=True)
            (Path(folder) / path).write_text(content)
        done = subprocess.run(
            [sys.executable, "-m", "documentation.constructs"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout)


def used(name: str) -> tuple[dict[str, Any], set[str]]:
    """Run the Python blocks of a page.

    Returns the resources of the stack that the blocks define, and the logical ids of the resources that the
    page's construct created.
    """
    app = App()
    stack = Stack(app, "shop", env=Environment(account="123456789012", region="eu-west-1"))
    values: dict[str, Any] = {"stack": stack}
    for block in CODE.findall(page(name).read_text()):
        exec(compile(block, str(page(name)), "exec"), values)  # noqa: S102 - an example of our own
    found = next((each for each in stack.node.find_all() if type(each).__name__ == name), None)
    if found is None:
        raise ValueError(f"The usage in {page(name).relative_to(ROOT)} must create a {name}")
    created = [each for each in found.node.find_all() if isinstance(each, CfnResource)]
    resources = app.synth().get_stack_by_name("shop").template["Resources"]
    return resources, {str(stack.resolve(each.logical_id)) for each in created} & set(resources)


# Reference


def with_reference(name: str, text: str) -> str:
    """Return a page's text with its generated sections regenerated from the source code.

    Raises `ValueError` if the page lacks one of the sections.
    """
    for title, content in (("Props", props(name)), ("Attributes and methods", members(name))):
        section = re.compile(rf"^## {title}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
        if not section.search(text):
            raise ValueError(f"{page(name).relative_to(ROOT)} must have a section '## {title}'")
        written = f"## {title}\n{WRITTEN}\n\n{content}\n\n"
        text = section.sub(lambda _, new=written: new, text)
    return text.rstrip("\n") + "\n"


def props(name: str) -> str:
    """Return the tables of a construct's props, and of the data classes among their types."""
    source = _source()
    construct = source[name]
    described = {
        each.name: each.description
        for part in construct.docstring.parsed
        if part.kind is griffe.DocstringSectionKind.parameters
        for each in part.value
    }
    rows, types = [], []
    for each in construct.members["__init__"].parameters:
        if each.kind is griffe.ParameterKind.keyword_only:
            rows.append(_row(each.name, each.annotation, each.default, described.get(each.name, "")))
            types.append(str(each.annotation))
    tables = [_table(rows)] if rows else ["None."]
    for kind in _data_classes(types):
        fields = [
            _row(each.name, each.annotation, each.value, each.docstring.value if each.docstring else "")
            for each in source[kind].attributes.values()
            if each.is_public and "property" not in each.labels
        ]
        summary = _flat(source[kind].docstring.value.partition("\n\n")[0])
        tables.append(f"### {kind}\n\n{summary}\n\n{_table(fields)}")
    return "\n\n".join(tables)


def _data_classes(types: list[str]) -> list[str]:
    """Return the public data classes in these annotations, and in the annotations of those classes'
    fields."""
    found: list[str] = []
    waiting = list(types)
    while waiting:
        for word in re.findall(r"\b[A-Z]\w+", waiting.pop(0)):
            kind = getattr(groundplan, word, None)
            if word not in found and hasattr(kind, "__dataclass_fields__"):
                found.append(word)
                waiting += [
                    str(field.annotation) for field in _source()[word].members.values() if field.is_attribute
                ]
    return found


def members(name: str) -> str:
    """Return the table of a construct's public attributes and methods."""
    rows = []
    for each in _source()[name].all_members.values():
        if each.name.startswith("_") or not each.docstring:
            continue
        signature = each.name
        if each.is_function:
            taken = [p.name for p in each.parameters if p.name not in ("self", "cls")]
            signature = f"{each.name}({', '.join(taken)})"
        rows.append([f"`{signature}`", _flat(each.docstring.value.partition("\n\n")[0])])
    return _lines([["name", "description"], *rows]) if rows else "None."


@functools.cache
def _source() -> Any:
    folder = ROOT / "constructs"
    return griffe.load("groundplan", search_paths=[folder], docstring_parser=griffe.Parser.sphinx)


def _row(name: str, annotation: object, default: object, description: str) -> list[str]:
    said = DEFAULT.search(description)
    if default is None:
        shown = "required"
    elif said:
        shown = _flat(said[1])
    else:
        code = FACTORY.sub(r"\1", str(default))
        shown = EMPTY.get(code) or f"`{code}`"
    text = _flat(DEFAULT.sub("", description, count=1))
    return [f"`{name}`", f"`{_flat(str(annotation))}`", shown, text[:1].upper() + text[1:]]


def _table(rows: list[list[str]]) -> str:
    return _lines([["prop", "type", "default", "description"], *rows])


def _lines(rows: list[list[str]]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)


def _flat(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    print(json.dumps({name: diagram.resources(*used(name)).dot() for name in names()}))
