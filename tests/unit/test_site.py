"""The documentation site: its pages, and links between them."""

from __future__ import annotations

from typing import Any

import pytest

from documentation import site

KNOWN = site.pages()


@pytest.mark.parametrize("source", KNOWN)
def test_links_of_a_page_lead_to_files(source: str) -> None:
    site.linked((site.ROOT / source).read_text(), source, KNOWN)


def test_every_page_is_in_the_navigation_once() -> None:
    def pages(part: Any) -> list[str]:
        if isinstance(part, str):
            return [part]
        return [
            page for inner in (part.values() if isinstance(part, dict) else part) for page in pages(inner)
        ]

    findings = [page for page in KNOWN.values() if page.startswith("upstream/") and "README" not in page]
    assert sorted([*pages(site.navigation(KNOWN.values())), *findings]) == sorted(KNOWN.values())


@pytest.mark.parametrize(
    ("source", "given", "expected"),
    [
        ("README.md", "[a](docs/data.md)", "[a](data.md)"),
        ("README.md", "[a](constructs/README.md#users)", "[a](constructs.md#users)"),
        ("README.md", "![a](docs/report.webp)", "![a](report.webp)"),
        ("docs/upstream/README.md", "[a](../../constructs/README.md)", "[a](../constructs.md)"),
        ("docs/upstream/README.md", "[a](../data.md)", "[a](../data.md)"),
        ("constructs/README.md", "[a](../docs/data.md)", "[a](data.md)"),
        ("constructs/README.md", "[a](../stacks/models.py)", "a"),
        ("README.md", "[a](https://example.com/x.md)", "[a](https://example.com/x.md)"),
        ("README.md", "[a](#b)", "[a](#b)"),
        ("README.md", "```\n[a](docs/none.md)\n```\n", "```\n[a](docs/none.md)\n```\n"),
    ],
)
def test_link_leads_to_the_page_of_its_file(source: str, given: str, expected: str) -> None:
    assert site.linked(given, source, KNOWN) == expected


def test_link_to_code_leads_to_the_repository() -> None:
    address = "https://example.com/us/groundplan"
    found = site.linked("[a](app.py)", "README.md", KNOWN, address)
    assert found == f"[a]({address}/blob/main/app.py)"


@pytest.mark.parametrize("given", ["[a](docs/none.md)", "[a](../secret)", "![a](app.py)"])
def test_broken_link_fails(given: str) -> None:
    with pytest.raises(ValueError, match=r"README\.md (links to|shows) "):
        site.linked(given, "README.md", KNOWN)
