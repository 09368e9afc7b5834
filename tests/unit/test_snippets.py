"""The commands and code in the documentation fit the project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tooling import snippets


@pytest.mark.parametrize("path", snippets.documents(), ids=lambda path: str(path.relative_to(snippets.ROOT)))
def test_snippets_of_a_document_fit_the_project(path: Path) -> None:
    assert list(snippets.findings(path.read_text())) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("```sh\nmake deply STACK=portfolio_rl\n```\n", "make deply: the Makefile has no such target"),
        ("Run `make demo ARCH=portfolio`.", "ARCH must be one of .*, got portfolio"),
        ('```sh\nmake deploy SET="portfolio_rl.host=2"\n```\n', r"SET portfolio_rl\.host=2: .*host"),
        ('```sh\nmake deploy  # SET="portfolio_rl.hosts=0"\n```\n', r"SET portfolio_rl\.hosts=0: .*got '0'"),
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
