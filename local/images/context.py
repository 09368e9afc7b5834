"""The build context: the folder from which COPY copies, without files that `.dockerignore` excludes."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path


class BuildContext:
    """The folder from which COPY copies files, without files that `.dockerignore` excludes."""

    def __init__(self, folder: Path, dockerfile: Path):
        self.folder = folder.resolve()
        own = dockerfile.with_name(dockerfile.name + ".dockerignore")
        rules = own if own.exists() else folder / ".dockerignore"
        lines = rules.read_text("utf-8").splitlines() if rules.exists() else []
        self._rules = [_rule(line) for line in lines if line.strip() and not line.startswith("#")]

    def ignored(self, path: str) -> bool:
        """Return whether the last rule that matches the path, or a folder above it, excludes it."""
        parts = path.split("/")
        above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        verdict = False
        for pattern, excludes in self._rules:
            if any(pattern.fullmatch(name) for name in above):
                verdict = excludes
        return verdict

    def find(self, pattern: str) -> list[str]:
        """Return the sorted paths that match a source of COPY. Raises ValueError for paths outside the
        context."""
        path = posixpath.normpath(pattern.lstrip("/") or ".")
        found = [self.folder / path]
        if re.search(r"[*?\[]", path):
            found = sorted(self.folder.glob(path.replace("[^", "[!")))
        if any(not item.resolve().is_relative_to(self.folder) for item in found):
            raise ValueError(f"{pattern} leads outside the build context")
        names = [item.relative_to(self.folder).as_posix() for item in found if item.exists()]
        # An excluded folder may have files that a later rule includes again
        return [name for name in names if name == "." or not self.ignored(name) or self.below(name)]

    def below(self, path: str) -> list[str]:
        """Return the sorted paths below a folder that are not ignored, relative to the context."""
        names = (item.relative_to(self.folder).as_posix() for item in (self.folder / path).rglob("*"))
        return sorted(name for name in names if not self.ignored(name))


def _rule(line: str) -> tuple[re.Pattern[str], bool]:
    """Parse a line of .dockerignore. Return a pattern for whole paths, and whether the line excludes the
    paths that match."""
    text = line.strip()
    excludes = not text.startswith("!")
    text = posixpath.normpath(text.removeprefix("!").strip()).strip("/")
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", text)
    pattern = "".join(pieces.get(part, part if part[:1] == "[" else re.escape(part)) for part in parts)
    return re.compile(pattern), excludes
