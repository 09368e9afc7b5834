"""A hook of MkDocs: adds pages for files outside of `docs/`, sets the navigation, and changes links.

Markdown files link to each other by their paths in the repository, so that the links also work there. For the
site, links to pages and pictures are changed to their paths on the site. A link to any other file leads to
that file in the repository (`repo_url`); if no repository is set, the link is replaced by its text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = "docs"
BRANCH = "main"
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages on the site for files outside of `docs/`, by the files' paths. A README becomes the page of its
directory."""
ROOMS = ("constructs", "benchmarks", "tests", "notebooks", "runtime", "containers", "local")
"""Directories whose READMEs are pages."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~)", re.MULTILINE)


def pages(root: Path = ROOT) -> dict[str, str]:
    """Return the page of each Markdown file, by its path in the project."""
    readmes = [path for room in ROOMS for path in sorted((root / room).rglob("README.md"))]
    found = {
        path.relative_to(root).as_posix(): f"{path.parent.relative_to(root).as_posix()}.md"
        for path in readmes
        if not any(part.startswith(".") or part == "node_modules" for part in path.parts[len(root.parts) :])
    }
    own = [path.relative_to(root).as_posix() for path in sorted((root / DOCS).rglob("*.md"))]
    return PAGES | found | {path: path.removeprefix(f"{DOCS}/") for path in own}


def navigation(known: Iterable[str]) -> list[Any]:
    """Return the navigation. Of `upstream/` it has only the index page, which lists the other pages of
    `upstream/`.

    :param known: all pages
    """
    rest = sorted(set(known))

    def taken(pattern: str) -> list[str]:
        found = [page for page in rest if re.fullmatch(pattern, page)]
        rest[:] = [page for page in rest if page not in found]
        return found

    found = [
        taken(r"index\.md")[0],
        {"Architectures": [{page.split("/")[0]: page} for page in taken(r"\w+/guide\.md")]},
        {"Local cloud": taken(r"local.*\.md") + taken(r"upstream/README\.md")},
        {"Deploy": taken(r"(on-aws|operations|security|troubleshooting)\.md")},
        {"Constructs": taken(r"constructs\.md") + taken(r"constructs/.*\.md")},
        {"Benchmarks": taken(r"benchmarks\.md")[0]},
        {"Images": taken(r"containers.*\.md")},
        {"Functions": taken(r"runtime.*\.md")},
    ]
    taken("upstream/.*")
    return [*found, {"Details": taken(r"\w+/.*\.md")}, {"Contribute": rest}]


def linked(markdown: str, source: str, known: dict[str, str], repository: str = "") -> str:
    """Return a page's text with its links changed for the site.

    Raises `ValueError` for a link to a file that does not exist.

    :param source: path of the page's file in the project
    :param known: the pages by Markdown file, from `pages`
    :param repository: address of the repository; if empty, links to files that are not pages become text
    """
    here = posixpath.dirname(known[source])

    def changed(match: re.Match[str]) -> str:
        picture, text, address = match.groups()
        target, mark, anchor = address.partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path.startswith("../") or not (ROOT / path).exists():
            raise ValueError(f"{source} links to {target}, which does not exist")
        page = known.get(path) or known.get(f"{path}/README.md")
        if page is None and path.startswith(f"{DOCS}/"):
            page = path.removeprefix(f"{DOCS}/")
        if page is not None:
            return f"{picture}[{text}]({posixpath.relpath(page, here or '.')}{mark}{anchor})"
        if picture:
            raise ValueError(f"{source} shows {target}, which must be in {DOCS}/")
        return (
            f"[{text}]({repository.rstrip('/')}/blob/{BRANCH}/{path}{mark}{anchor})" if repository else text
        )

    parts = FENCE.split(markdown)
    # parts alternate between text and code: text, fence, code, fence, text, ...
    return "".join(LINK.sub(changed, part) if number % 4 == 0 else part for number, part in enumerate(parts))


def on_config(config: Any) -> Any:
    """Set the navigation."""
    config.nav = navigation(pages().values())
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of files outside of `docs/`."""
    from mkdocs.structure.files import File  # imported here, because tests run without MkDocs

    for source, page in pages().items():
        if not source.startswith(f"{DOCS}/"):
            files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Change the links of a page."""
    from mkdocs.exceptions import PluginError

    known = pages()
    (source,) = [path for path, uri in known.items() if uri == page.file.src_uri]
    try:
        return linked(markdown, source, known, config.repo_url or "")
    except ValueError as error:
        raise PluginError(str(error)) from None


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Add the accessible name that the theme's search dialog lacks, for screen readers."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
