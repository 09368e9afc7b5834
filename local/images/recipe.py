"""Evaluation of a Dockerfile, without writing anything.

The result is a `Stage`: files by their paths in the image, packages to install, commands to run, environment,
and entry point. Every instruction and option is either supported, or listed here because it has no effect on
this machine, or refused.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from local.images import bases
from local.images.context import BuildContext
from local.images.dockerfile import BuildError, Instruction, commands, read

RUN_WITHOUT_EFFECT = {"useradd", "groupadd", "adduser", "addgroup", "chown"}
"""Commands of RUN that are accepted and not executed. They concern users, and all programs of an image run
as the local cloud's user."""

COPY_WITHOUT_EFFECT = {"chown", "link"}
"""Options of COPY that are accepted and ignored: in the store, files have no separate owner, and images have
no layers."""

PIP_WITHOUT_EFFECT = {
    "--break-system-packages", "--default-timeout", "--disable-pip-version-check", "--no-cache-dir",
    "--no-color", "--no-compile", "--no-input", "--no-warn-script-location", "--progress-bar", "--quiet",
    "--retries", "--root-user-action", "--timeout", "-q",
}  # fmt: skip
"""Options of pip, and `PIP_` variables of the same names, that are accepted and ignored, because they do not
change which packages are installed."""

PYTHON = r"python(3(\.\d+)?)?"
"""Pattern of the names of the image's Python interpreter as a command in RUN."""

PIP_FLAGS = {"--no-deps", "--no-index", "--require-hashes", "--upgrade", "-U"}
PIP_VALUES = {"--extra-index-url", "--find-links", "--index-url", "--no-binary", "--only-binary", "-f", "-i"}
PIP_FILES = {"--constraint", "--requirement", "-c", "-r"}
PIP_VALUES_WITHOUT_EFFECT = {
    "--default-timeout", "--progress-bar", "--retries", "--root-user-action", "--timeout",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A folder (`source` and `link` are None), a file of the build context, or a symbolic link."""

    source: Path | None = None
    executable: bool = False
    link: str | None = None

    @property
    def folder(self) -> bool:
        return self.source is None and self.link is None


Found = tuple[str, Entry, list[tuple[str, Entry]]]
"""
A file or folder that matches a source of COPY: its base name, its entry, and the entries below it, each with
its path relative to this folder.
"""


@dataclass(frozen=True)
class Install:
    """One `pip install`: its arguments, and its requirement files by path in the image (no leading slash)."""

    arguments: tuple[str, ...]
    files: dict[str, bytes]
    instruction: Instruction


@dataclass(frozen=True)
class Command:
    """One command of RUN to execute, and the state of the image before it."""

    words: tuple[str, ...]
    environment: dict[str, str]
    workdir: str
    files: dict[str, Entry]
    instruction: Instruction


@dataclass
class Stage:
    """The image after the instructions of the Dockerfile that were evaluated so far."""

    base: bases.Base
    name: str
    architecture: str
    environment: dict[str, str]
    command: list[str]
    command_is_own: bool = False
    entrypoint: list[str] = field(default_factory=list)
    entry: Instruction | None = None
    """The last ENTRYPOINT or CMD instruction, for error messages"""
    files: dict[str, Entry] = field(default_factory=dict)
    installs: list[Install] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    workdir: str = "/"
    labels: dict[str, str] = field(default_factory=dict)
    # Recorded without effect: SageMaker does not use ports, stop signal or health check, and here programs
    # run as the user of the local cloud.
    user: str = ""
    ports: dict[str, dict] = field(default_factory=dict)
    stop_signal: str = ""
    health_check: str = ""
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        return self.arguments | self.environment

    def child(self, name: str) -> Stage:
        """Return a new stage that starts from this one."""
        return replace(
            self,
            name=name,
            environment=dict(self.environment),
            files=dict(self.files),
            installs=list(self.installs),
            commands=list(self.commands),
            labels=dict(self.labels),
            ports=dict(self.ports),
            arguments={},
            command_is_own=False,
        )

    def absolute(self, path: str) -> str:
        """Return the absolute path in the image of a path relative to the working directory."""
        return "/" + posixpath.normpath(posixpath.join(self.workdir, path)).lstrip("/")

    def is_folder(self, path: str) -> bool:
        return path == "/" or path in self.base.folders or (path in self.files and self.files[path].folder)

    def put(self, path: str, entry: Entry, instruction: Instruction) -> None:
        """Put a file, a link or a folder at an absolute path, and create the folders above it.

        Raises `BuildError` if a folder would replace a file or link, or the reverse."""
        above = posixpath.dirname(path)
        if above != "/":
            self.put(above, Entry(), instruction)
        if path == "/":
            return
        there = self.files.get(path)
        if there is not None and there.folder != entry.folder:
            raise instruction.error(
                f"{path} is already a {'folder' if there.folder else 'file'} in the image"
            )
        self.files[path] = entry


def evaluate(
    dockerfile: Path,
    context: Path,
    build_args: dict[str, str],
    target: str | None,
    architecture: str,
    say: Callable[[str], None],
) -> Stage:
    """Evaluate the Dockerfile up to its last stage, or to the stage named `target`.

    Raises `BuildError` with the file, line and text of an instruction that is invalid or not supported.
    """
    shown = str(dockerfile.relative_to(context)) if dockerfile.is_relative_to(context) else str(dockerfile)
    instructions = read(dockerfile, shown)
    target = target and target.lower()  # names of stages are stored in lower case
    reader = _Reader(BuildContext(context, dockerfile), build_args, architecture)
    for number, instruction in enumerate(instructions, 1):
        say(f"[{number}/{len(instructions)}] {instruction.name} {' '.join(instruction.value.split())[:100]}")
        if instruction.name == "FROM" and target and reader.stages and reader.stages[-1].name == target:
            break
        reader.follow(instruction)
    if not reader.stages:
        raise BuildError(f"{shown}: there is no FROM")
    if target and reader.stages[-1].name != target:
        raise BuildError(f"{shown}: there is no stage named {target}")
    if unused := sorted(set(build_args) - reader.declared):
        say(f"no ARG declares these build arguments: {', '.join(unused)}")
    return reader.stages[-1]


class _Reader:
    def __init__(self, context: BuildContext, build_args: dict[str, str], architecture: str):
        self.context = context
        self.build_args = build_args
        self.architecture = architecture
        platform = {"PLATFORM": f"linux/{architecture}", "OS": "linux", "ARCH": architecture}
        self.global_args = {f"{on}{k}": v for on in ("TARGET", "BUILD") for k, v in platform.items()}
        self.declared: set[str] = set()
        self.stages: list[Stage] = []

    @property
    def stage(self) -> Stage:
        return self.stages[-1]

    def follow(self, instruction: Instruction) -> None:
        handler = HANDLERS.get(instruction.name)
        if handler is None:
            hint = ": use COPY" if instruction.name == "ADD" else f", only {', '.join(HANDLERS)} are"
            raise instruction.error(f"the instruction {instruction.name} is not supported{hint}")
        if not self.stages and instruction.name not in ("FROM", "ARG"):
            raise instruction.error("it must come after the first FROM")
        handler(self, instruction)

    def from_(self, instruction: Instruction) -> None:
        _, rest = instruction.options({"platform"})  # ignored: packages match this machine
        words = [instruction.expand(word, self.global_args) for word in instruction.raw_words(rest)]
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
            raise instruction.error("it must read FROM image, or FROM image AS name")
        name = words[2].lower() if len(words) == 3 else ""
        for earlier in self.stages:
            if earlier.name and earlier.name == words[0].lower():
                self.stages.append(earlier.child(name))
                return
        try:
            base = bases.find(words[0])
        except LookupError as error:
            raise instruction.error(str(error.args[0])) from None
        self.stages.append(
            Stage(base, name, self.architecture, dict(base.environment), command=list(base.command))
        )

    def arg(self, instruction: Instruction) -> None:
        known = self.stage.variables if self.stages else self.global_args
        for word in instruction.raw_words():
            name, has_default, default = word.partition("=")
            self.declared.add(name)
            if name in self.build_args:
                value = self.build_args[name]
            elif has_default:
                value = instruction.expand(default, known)
            elif self.stages and name in self.global_args:
                value = self.global_args[name]
            else:
                continue
            (self.stage.arguments if self.stages else self.global_args)[name] = value

    def env(self, instruction: Instruction) -> None:
        self.stage.environment |= instruction.pairs(self.stage.variables)

    def label(self, instruction: Instruction) -> None:
        self.stage.labels |= instruction.pairs(self.stage.variables)

    def workdir(self, instruction: Instruction) -> None:
        self.stage.workdir = self.stage.absolute(instruction.expand(instruction.value, self.stage.variables))
        self.stage.put(self.stage.workdir, Entry(), instruction)

    def user(self, instruction: Instruction) -> None:
        self.stage.user = instruction.expand(instruction.value, self.stage.variables)

    def expose(self, instruction: Instruction) -> None:
        for word in instruction.words(self.stage.variables):
            if not re.fullmatch(r"\d+(/(tcp|udp))?", word):
                raise instruction.error(f"{word} is not a port such as 8080 or 8080/tcp")
            self.stage.ports[word if "/" in word else f"{word}/tcp"] = {}

    def stop_signal(self, instruction: Instruction) -> None:
        self.stage.stop_signal = instruction.expand(instruction.value, self.stage.variables)

    def health_check(self, instruction: Instruction) -> None:
        self.stage.health_check = instruction.value

    def entrypoint(self, instruction: Instruction) -> None:
        self.stage.entrypoint, self.stage.entry = instruction.exec_form(), instruction
        if not self.stage.command_is_own:
            self.stage.command = []

    def cmd(self, instruction: Instruction) -> None:
        self.stage.command, self.stage.entry = instruction.exec_form(), instruction
        self.stage.command_is_own = True

    # COPY

    def copy(self, instruction: Instruction) -> None:
        options, rest = instruction.options({"from", "chmod", *COPY_WITHOUT_EFFECT})
        words = instruction.exec_form(rest) if rest.startswith("[") else instruction.raw_words(rest)
        *sources, destination = [instruction.expand(word, self.stage.variables) for word in words]
        if not sources:
            raise instruction.error("it must have a source and a destination")
        mode = options.get("chmod")
        if mode is not None and not re.fullmatch("0?[0-7]{3}", mode):
            raise instruction.error(f"--chmod={mode} is not an octal mode such as 755")
        found: list[Found] = []
        for source in sources:
            if "from" in options:
                matches = self._in_stage(instruction, options["from"], source)
                where = f"stage {options['from']}"
            else:
                matches = self._in_context(instruction, source)
                where = "the build context, or .dockerignore excludes it"
            if not matches:
                raise instruction.error(f"{source} is not in {where}")
            found += matches
        into = destination.endswith(("/", "/.")) or destination == "." or len(found) > 1
        destination = self.stage.absolute(destination)
        into = into or self.stage.is_folder(destination)
        for name, entry, below in found:
            if entry.folder:
                self.stage.put(destination, Entry(), instruction)
                for inner, item in below:
                    self._put(posixpath.join(destination, inner), item, mode, instruction)
            else:
                path = posixpath.join(destination, name) if into else destination
                self._put(path, entry, mode, instruction)

    def _put(self, path: str, entry: Entry, mode: str | None, instruction: Instruction) -> None:
        if mode is not None and entry.source is not None:
            entry = replace(entry, executable=bool(int(mode, 8) & 0o100))
        if entry.link is not None:
            depth = posixpath.normpath(posixpath.join(posixpath.dirname(path)[1:], entry.link))
            if entry.link.startswith("/") or depth.startswith(".."):
                raise instruction.error(
                    f"the link {path} -> {entry.link} must be relative and must not leave the image"
                )
        self.stage.put(path, entry, instruction)

    def _in_context(self, instruction: Instruction, source: str) -> list[Found]:
        folder = self.context.folder

        def entry(path: Path) -> Entry:
            if path.is_symlink():
                return Entry(link=str(path.readlink()))
            if path.is_dir():
                return Entry()
            if not path.is_file():
                raise instruction.error(f"{path.name} is neither a file, a folder nor a symbolic link")
            return Entry(source=path, executable=bool(path.stat().st_mode & 0o100))

        try:
            names = self.context.find(source)
        except ValueError as error:
            raise instruction.error(str(error)) from None
        return [
            (
                posixpath.basename(name),
                entry((folder / name).resolve()),  # a link that is itself the source is followed
                [(posixpath.relpath(item, name), entry(folder / item)) for item in self.context.below(name)],
            )
            for name in names
        ]

    def _in_stage(self, instruction: Instruction, name: str, source: str) -> list[Found]:
        earlier = {str(number): stage for number, stage in enumerate(self.stages[:-1])}
        earlier |= {stage.name: stage for stage in self.stages[:-1] if stage.name}
        stage = earlier.get(name.lower())
        if stage is None:
            raise instruction.error(f"{name} is not an earlier stage, and other images are not supported")
        if stage.commands:
            raise instruction.error(
                f"stage {name} runs Python: files that a command writes cannot be copied to other stages"
            )
        files = sorted(stage.files.items())
        shape = re.escape(posixpath.normpath(posixpath.join("/", source)))
        shape = shape.replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        return [
            (
                posixpath.basename(path),
                entry,
                [(inner[len(path) + 1 :], item) for inner, item in files if inner.startswith(path + "/")],
            )
            for path, entry in files
            if re.fullmatch(shape, path)
        ]

    # RUN

    def run(self, instruction: Instruction) -> None:
        options, rest = instruction.options({"mount"})
        if "mount" in options and "type=cache" not in options["mount"].split(","):
            raise instruction.error("only --mount=type=cache is supported")
        for words in commands(instruction, rest, self.stage.variables):
            python = re.fullmatch(PYTHON, words[0]) and words[1:3] == ["-m", "pip"]
            if python or re.fullmatch(r"pip(3(\.\d+)?)?", words[0]):
                self._pip(instruction, words[3:] if python else words[1:])
            elif words[0] == "mkdir":
                self._mkdir(instruction, words[1:])
            elif re.fullmatch(PYTHON, words[0]):
                known = dict(self.stage.variables), self.stage.workdir, dict(self.stage.files)
                self.stage.commands.append(Command(tuple(words), *known, instruction))
            elif words[0] not in RUN_WITHOUT_EFFECT:
                known = ", ".join(["pip install", "python", "mkdir", *sorted(RUN_WITHOUT_EFFECT)])
                raise instruction.error(f"the command {words[0]} is not supported, only {known} are")

    def _mkdir(self, instruction: Instruction, words: list[str]) -> None:
        for word in words:
            if word.startswith("-") and word not in ("-p", "--parents"):
                raise instruction.error(f"mkdir's option {word} is not supported")
            if not word.startswith("-"):
                self.stage.put(self.stage.absolute(word), Entry(), instruction)

    def _pip(self, instruction: Instruction, words: list[str]) -> None:
        if words[:1] != ["install"]:
            raise instruction.error("of pip's commands only install is supported")
        if self.stage.commands:
            line = self.stage.commands[0].instruction.line
            raise instruction.error(f"pip install must come before the python command in line {line}")
        for name in self.stage.variables:
            option = "--" + name[4:].lower().replace("_", "-")
            if name.startswith("PIP_") and option not in PIP_WITHOUT_EFFECT:
                raise instruction.error(
                    f"the variable {name} is not supported: use the option of pip install instead"
                )
        arguments: list[str] = []
        files: dict[str, bytes] = {}
        rest = iter(words[1:])
        for word in rest:
            option, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
            if re.fullmatch("-[rcfi].+", word):
                option, equals, value = word[:2], "=", word[2:]
            if not word.startswith("-"):
                arguments.append(self._requirement(instruction, word))
                continue
            if option in PIP_VALUES | PIP_FILES | PIP_VALUES_WITHOUT_EFFECT and not equals:
                value = next(rest, "")
            if option in PIP_FILES:
                arguments += [option, self._requirement_file(instruction, value, self.stage.workdir, files)]
            elif option in PIP_VALUES:
                if value.startswith((".", "/")):
                    raise instruction.error(f"{option} {value}: only a URL is supported, not a folder")
                # `--default-index` takes precedence over this machine's settings
                arguments += ["--default-index" if option in ("-i", "--index-url") else option, value]
            elif option in PIP_FLAGS:
                arguments.append(option)
            elif option == "--pre":
                arguments += ["--prerelease", "allow"]
            elif option not in PIP_WITHOUT_EFFECT:
                raise instruction.error(f"pip's option {option} is not supported")
        if not arguments:
            raise instruction.error("pip install has no packages")
        self.stage.installs.append(Install(tuple(arguments), files, instruction))

    def _requirement(self, instruction: Instruction, text: str) -> str:
        is_file = "://" not in text and text.endswith((".whl", ".tar.gz", ".zip"))
        if is_file or text.startswith((".", "/")) or "file:" in text:
            raise instruction.error(f"{text}: installing from a path is not supported, only from an index is")
        return text

    def _requirement_file(
        self, instruction: Instruction, path: str, folder: str, files: dict[str, bytes]
    ) -> str:
        """Add a requirements file, and the files that it includes, to `files`. Return its key in `files`.

        Earlier instructions must have copied these files to the image. Raises `BuildError`."""
        inside = posixpath.normpath(posixpath.join(folder, path))
        entry = self.stage.files.get(inside)
        if entry is None or entry.source is None:
            raise instruction.error(f"{inside} is not a file in the image at this point: COPY it first")
        key = inside.lstrip("/")
        if key in files:
            return key
        files[key] = entry.source.read_bytes()
        for line in files[key].decode("utf-8").splitlines():
            if match := re.match(r"\s*(?:-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+)?(\S+)", line):
                if match[1].startswith("/"):
                    raise instruction.error(
                        f"{inside}: {line.strip()}: the path must be relative to the requirements file"
                    )
                self._requirement_file(instruction, match[1], posixpath.dirname(inside), files)
            elif re.match(r"\s*(-e|--editable|-f|--find-links)\b", line):
                raise instruction.error(f"{inside}: {line.strip()}: this option is not supported")
            else:
                self._requirement(instruction, re.sub(r"(^|\s)#.*", "", line).strip())
        return key


HANDLERS: dict[str, Callable[[_Reader, Instruction], None]] = {
    "FROM": _Reader.from_,
    "ARG": _Reader.arg,
    "ENV": _Reader.env,
    "LABEL": _Reader.label,
    "WORKDIR": _Reader.workdir,
    "COPY": _Reader.copy,
    "RUN": _Reader.run,
    "USER": _Reader.user,
    "EXPOSE": _Reader.expose,
    "STOPSIGNAL": _Reader.stop_signal,
    "HEALTHCHECK": _Reader.health_check,
    "ENTRYPOINT": _Reader.entrypoint,
    "CMD": _Reader.cmd,
}
