"""The arguments of a CDK command, and the stacks that it selects in the synthesized app."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tooling import envs

OPTIONS = "aws-cdk/lib/cli/cli-type-registry.json"
"""The CDK CLI's list of its options, in its npm package."""

REPLACED = {"output", "quiet"}
"""Global options that `synthesized` sets itself."""


class PreparationError(Exception):
    """The deployment would fail. The message has the reason and the remedy."""


class SynthesisError(PreparationError):
    """The app cannot be synthesized. The message is the CDK CLI's output."""


@dataclass(frozen=True)
class CommandLine:
    """The arguments of the CDK CLI: command, stack patterns, and options by long name.

    A flag's value is an empty string, or the next argument if that is `true` or `false`.
    """

    command: str
    patterns: tuple[str, ...]
    options: tuple[tuple[str, str], ...]

    def option(self, name: str) -> str | None:
        """Return the last value of an option; None if it is absent."""
        return dict(self.options).get(name)


@dataclass(frozen=True)
class Stack:
    """A stack of a synthesized app."""

    name: str
    template: dict[str, Any]
    dockerfiles: tuple[tuple[Path, dict[str, str]], ...]
    """The Dockerfile and the build arguments of each image that the stack builds."""


def parse(arguments: Sequence[str]) -> CommandLine:
    """Parse arguments as the CDK CLI does: options may precede the command and come between patterns."""
    known = _known_options()
    words: list[str] = []
    options: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        given, equals, value = word.partition("=")
        # if one argument combines several short options, the value belongs to the last of them
        spelt = _letters(given) if given.startswith("--") else given[-1:]
        name, takes_value = known.get(spelt, (given.lstrip("-"), False))
        if not equals and rest:
            follows = not rest[0].startswith("-") if takes_value else rest[0] in ("true", "false")
            value = rest.pop(0) if follows else ""
        options.append((name, value))
    return CommandLine(words[0] if words else "", tuple(words[1:]), tuple(options))


@contextlib.contextmanager
def synthesized(line: CommandLine, environment: Mapping[str, str]) -> Iterator[Path]:
    """Synthesize the app with the global options of `line`. Yield the output folder, which is then deleted.

    If `--app` is a folder with an app that is already synthesized, yield that folder. Raises
    `SynthesisError`.
    """
    app = Path(line.option("app") or "")
    if line.option("app") and app.is_dir():
        yield app
        return
    taken = {name for name, _ in _global_options().values()} - REPLACED
    options = [f"--{name}={value}" if value else f"--{name}" for name, value in line.options if name in taken]
    with tempfile.TemporaryDirectory(prefix="groundplan-") as folder:
        command = [str(envs.cdk()), "synth", "--quiet", "--no-notices", "--output", folder, *options]
        done = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
        if done.returncode:
            raise SynthesisError((done.stderr or done.stdout).strip())
        yield Path(folder)


def selected(assembly: Path, line: CommandLine) -> list[Stack]:
    """Return the stacks that match the patterns of `line`, or all stacks if `line` has no patterns or has
    `--all`."""
    artifacts = json.loads((assembly / "manifest.json").read_text())["artifacts"]
    patterns = () if line.option("all") in ("", "true") else line.patterns
    found = []
    for identifier, artifact in artifacts.items():
        if artifact["type"] != "aws:cloudformation:stack":
            continue
        if patterns and not any(_matches(artifact.get("displayName", identifier), each) for each in patterns):
            continue
        properties = artifact["properties"]
        images = [
            image["source"]
            for each in artifact.get("dependencies", ())
            if artifacts[each]["type"] == "cdk:asset-manifest"
            for image in json.loads((assembly / artifacts[each]["properties"]["file"]).read_text())
            .get("dockerImages", {})
            .values()
            if "directory" in image["source"]
        ]
        found.append(
            Stack(
                properties.get("stackName", identifier),
                json.loads((assembly / properties["templateFile"]).read_text()),
                tuple(
                    (
                        assembly / image["directory"] / image.get("dockerFile", "Dockerfile"),
                        image.get("dockerBuildArgs", {}),
                    )
                    for image in images
                ),
            )
        )
    return found


def _matches(name: str, pattern: str) -> bool:
    """Return whether the CDK CLI may select a stack by a pattern; True for glob syntax that fnmatch lacks."""
    return bool(re.search(r"[{}()!]", pattern)) or fnmatch.fnmatchcase(name, pattern)


def _known_options() -> dict[str, tuple[str, bool]]:
    """Return, by each spelling of each option, the option's long name, and whether the option takes a
    value."""
    known: dict[str, tuple[str, bool]] = {}
    for command in _registry()["commands"].values():
        known |= _spelt(command.get("options", {}))
    return known | _global_options()


def _global_options() -> dict[str, tuple[str, bool]]:
    return _spelt(_registry()["globalOptions"])


def _registry() -> dict[str, Any]:
    return json.loads((envs.cdk().parents[1] / OPTIONS).read_text())


def _spelt(options: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    known = {}
    for name, option in options.items():
        alias = option.get("alias", [])
        for spelling in [name, *([alias] if isinstance(alias, str) else alias)]:
            takes_value = option["type"] in ("string", "number", "array")
            known[spelling if len(spelling) == 1 else _letters(spelling)] = name, takes_value
    return known


def _letters(option: str) -> str:
    """Return an option in lower case without dashes: the CLI accepts `--requireApproval` too."""
    return option.replace("-", "").lower()
