"""The commands and code in the documentation fit the project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import architectures
from documentation import snippets

NAME = architectures.ALL[0].name


@pytest.mark.parametrize("path", snippets.documents(), ids=lambda path: str(path.relative_to(snippets.ROOT)))
def test_snippets_of_a_document_fit_the_project(path: Path) -> None:
    assert list(snippets.findings(path.read_text())) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("```sh\nmake deply\n```\n", "make deply: the Makefile has no such target"),
        ("Run `make demo ARCH=portfolios`.", "ARCH must be one of .*, got portfolios"),
        (f'```sh\nmake deploy SET="{NAME}.mail=a"\n```\n', rf"SET {NAME}\.mail=a: .*mail"),
        (f'```sh\nmake deploy  # SET="{NAME}.retain=1.5"\n```\n', rf"SET {NAME}\.retain=1\.5: .*got '1\.5'"),
        ("```sh\npython -m tooling.snippet\n```\n", "python -m tooling.snippet: there is no such module"),
        ("```python\nfrom groundplan import TrainOnly\n```\n", "groundplan has no TrainOnly"),
        ("```python\nif\n```\n", "Python: invalid syntax"),
        ('```json\n{"a": 1,}\n```\n', "JSON: .*"),
        ("See `settings/portfolio.py`.", "settings/portfolio.py: there is no such file"),
        ("```sh\naws sagemaker start-job\n```\n", "aws sagemaker start-job: there is no such operation"),
        (
            "```sh\naws ssm put-parameter --name A --values go\n```\n",
            "aws ssm put-parameter --values: there is no such option",
        ),
    ],
)
def test_stale_snippet_is_found(text: str, finding: str) -> None:
    (found,) = snippets.findings(text)
    assert re.search(finding, found)
