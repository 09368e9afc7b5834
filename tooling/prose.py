"""Check the project's language for phrases to avoid and for long names of tests.

.groundplan/envs/app/bin/python -m tooling.prose
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("*.py", "*.md", "*.js", "*.html", "*.j2", "*.css", "*.toml", "*.yml", "*Makefile", "*Dockerfile")
MOST_WORDS = 10
"""Maximum number of words in a test's name, after `test_`"""
PHRASES = {
    "allowed is": "must be",
    "for ever": "without end, indefinitely",
    "whoever": "the user, caller or process",
    "nobody": "no user, no process",
    "what may": "the allowed ...",
    "all that": "all ..., everything in ...",
    "what is known of": "the data of",
    "farewell": "shutdown message",
}
"""Phrases to avoid, with what to write instead"""
NAMES = ("nobody",)
"""Phrases that are allowed in some folders, because they are names of users in tests and on Linux"""
OWN = Path(__file__).resolve().relative_to(ROOT).as_posix()
PHRASE = re.compile(
    # a phrase before `None`, as in `allowed is None`, is code
    r"\b(" + "|".join(phrase.replace(" ", r"\s+") for phrase in PHRASES) + r")\b(?! (?:not )?None)",
    re.IGNORECASE,
)
TEST = re.compile(r"^\s*(?:async )?def test_(\w+)", re.MULTILINE)


def findings(path: str, text: str) -> Iterator[str]:
    """Yield a message for each phrase and each long test name in a file."""
    for match in PHRASE.finditer(text):
        phrase = " ".join(match[0].lower().split())
        if phrase in NAMES and path.startswith(("tests/", "local/")):
            continue
        yield f"{_place(path, text, match)}: {match[0]!r} must be replaced, such as by: {PHRASES[phrase]}"
    if path.startswith("tests/"):
        for match in TEST.finditer(text):
            if (words := len(match[1].split("_"))) > MOST_WORDS:
                name = f"{_place(path, text, match)}: test_{match[1]}"
                yield f"{name} must have at most {MOST_WORDS} words after test_, got {words}"


def _place(path: str, text: str, match: re.Match[str]) -> str:
    return f"{path}:{text.count(chr(10), 0, match.start()) + 1}"


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *FILES], cwd=ROOT, capture_output=True, text=True
    )
    paths = [path for path in listed.stdout.splitlines() if path != OWN and (ROOT / path).is_file()]
    found = [each for path in paths for each in findings(path, (ROOT / path).read_text())]
    print("\n".join(found), file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
