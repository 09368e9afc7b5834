"""Parsing of a Dockerfile: its instructions, their words and variables, and errors with file and line."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dockerfile_parse import DockerfileParser
from dockerfile_parse.util import WordSplitter

Variables = Mapping[str, str]


class BuildError(Exception):
    """An image cannot be built. The message is the reason."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, its arguments, and its file and line."""

    name: str
    value: str
    file: str
    line: int

    def error(self, reason: str) -> BuildError:
        """Return an error with the file, line and text of this instruction. Variables in the text are not
        expanded."""
        shown = " ".join(self.value.split())
        return BuildError(f"{self.file}:{self.line}: {self.name} {shown[:120]}: {reason}")

    def expand(self, text: str, variables: Variables) -> str:
        """Return `text` without quotes, with `$NAME` and `${NAME}` replaced; unset variables are empty.

        Raises `BuildError` for other forms, such as `${NAME:-default}`."""
        if found := re.search(r"\$\{(?!\w+\})[^}]*\}?", text):
            raise self.error(f"{found[0]} is not supported, only $NAME and ${{NAME}} are")
        return WordSplitter(text, args=variables, envs={}).dequote()

    def raw_words(self, text: str | None = None) -> list[str]:
        words = WordSplitter(self.value if text is None else text).split(dequote=False)
        return [word for word in words if word]

    def words(self, variables: Variables) -> list[str]:
        return [self.expand(word, variables) for word in self.raw_words()]

    def pairs(self, variables: Variables) -> dict[str, str]:
        """Return the names and values of ENV or LABEL: `NAME=VALUE ...`, or `NAME` and the rest as its value.

        Raises `BuildError`."""
        words = self.raw_words()
        if "=" not in words[0]:
            name, *rest = self.value.split(maxsplit=1)
            if not rest:
                raise self.error(f"{name} has no value")
            return {self.expand(name, variables): self.expand(rest[0], variables)}
        result = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or not name:
                raise self.error(f"{word} is not NAME=VALUE")
            result[self.expand(name, variables)] = self.expand(value, variables)
        return result

    def options(self, allowed: set[str]) -> tuple[dict[str, str], str]:
        """Return the leading `--name=value` options, and the text after them. Raises `BuildError`."""
        found, rest = {}, self.value
        while match := re.match(r"--([\w-]+)(?:=(\S*))?\s*", rest):
            if match[1] not in allowed:
                raise self.error(f"the option --{match[1]} is not supported")
            if match[1] in found:
                raise self.error(f"the option --{match[1]} is given twice")
            found[match[1]], rest = match[2] or "", rest[match.end() :]
        return found, rest

    def exec_form(self, text: str | None = None) -> list[str]:
        try:
            value = json.loads(self.value if text is None else text)
        except ValueError:
            value = None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(
                'only the exec form is supported, a JSON list such as ["python", "-m", "program"]: '
                "in the shell form the program would not receive the signals that end it"
            )
        return value


def read(path: Path, shown: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile. Raises `BuildError`.

    :param shown: name of the file in errors
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise BuildError(f"{shown}: the file does not exist") from None
    instructions, seen = [], set()
    for block in DockerfileParser(fileobj=io.StringIO(text)).structure:
        seen.update(range(block["startline"], block["endline"] + 1))
        if block["instruction"] != "COMMENT":
            item = Instruction(block["instruction"], block["value"].strip(), shown, block["startline"] + 1)
            if not item.value:
                raise item.error("the instruction has no arguments")
            if item.name in ("RUN", "COPY", "ADD") and re.search(r"<<-?\s*[\"']?\w", item.value):
                raise item.error("here-documents are not supported")
            instructions.append(item)
    # The parser ignores lines that it cannot read, and an instruction whose last line has a continuation
    for number, line in enumerate(text.split("\n")):
        if line.strip() and number not in seen:
            raise BuildError(
                f"{shown}:{number + 1}: {line.strip()[:120]}: this line is not part of a complete instruction"
            )
    if not instructions:
        raise BuildError(f"{shown}: the file has no instructions")
    return instructions


def commands(instruction: Instruction, text: str, variables: Variables) -> list[list[str]]:
    """Return the commands of a RUN. As in a shell, words may be quoted, and commands are joined with `&&`.

    Raises `BuildError` for any other shell syntax.
    """
    if text.startswith("["):
        return [instruction.exec_form(text)]
    result: list[list[str]] = [[]]
    for raw in instruction.raw_words(text):
        if raw == "&&":
            result.append([])
            continue
        live = re.sub(r"'[^']*'|\\.", "", raw)
        bare = re.sub(r'"[^"]*"', "", live)
        if found := re.search(r"[;&|<>()*?]|^#", bare) or re.search(r"`|\$\(", live):
            hint = ': quote it, as in "name>=1"' if found[0] in "<>" else ""
            raise instruction.error(f"the shell's {found[0]} is not supported, only && is{hint}")
        word = instruction.expand(raw, variables)
        result[-1] += word.split() if "$" in bare else [word]
    if not all(result):
        raise instruction.error("a command before or after && is empty")
    return result
