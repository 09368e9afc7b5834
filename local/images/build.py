"""Building of an image from a Dockerfile, into the store. An image with the same hash is not built again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local import namespaces
from local.images import bases, commands, store
from local.images.dockerfile import BuildError, Instruction
from local.images.recipe import Entry, Stage, evaluate
from local.images.store import Image
from tooling import envs

SKIPPED = "skipped"
FORMAT = 1
"""Version of this package's output. Increase it if a change here gives another image for the same
Dockerfile."""


def build(
    context: Path,
    dockerfile: Path | None = None,
    build_args: dict[str, str] | None = None,
    target: str | None = None,
    architecture: str = "amd64",
    manifest: str = "docker",
    say: Callable[[str], None] = envs.say,
) -> Image:
    """Build a Dockerfile and return the image.

    The same content gives the same image, which is returned immediately if it exists. If the machine does not
    support namespaces, Python commands in RUN are not executed. If the function raises `BuildError`, it
    leaves no files.

    :param context: folder of the build context
    :param dockerfile: default: `Dockerfile` in the context
    :param target: name of the stage to build; default: the last one
    :param manifest: format of the image's manifest in registries: `docker` or `oci`
    :param say: prints progress
    """
    context = context.resolve()
    dockerfile = dockerfile.resolve() if dockerfile else context / "Dockerfile"
    stage = evaluate(dockerfile, context, build_args or {}, target, architecture, say)
    skipped = _unavailable() if stage.commands else ""
    document = _document(stage, manifest, bool(skipped))
    written = json.dumps(document, indent=1, sort_keys=True).encode()
    identifier = hashlib.sha256(written).hexdigest()
    image = Image(identifier, store.folder() / identifier)
    environment = _environment_key(stage)
    if image.intact:
        say(f"{identifier[:12]} exists already")
        return image
    _make_environment(stage, envs.home() / "envs" / environment)
    store.folder().mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=store.folder(), prefix=".building-"))
    try:
        _fill(stage, draft, envs.home() / "envs" / environment, skipped, say)
        (draft / "env").symlink_to(os.path.join("..", "..", "envs", environment))  # noqa: PTH118
        (draft / "image.json").write_bytes(written)
        _check_entry(stage, Image(identifier, draft))
        draft.chmod(0o755)
        draft.rename(image.folder)
    except OSError:
        if not image.intact:  # else another process built the same image meanwhile
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    say(f"{identifier[:12]} is built")
    return image


def current(image: Image) -> bool:
    """Return whether building `image` again, with this program and this `bases.toml`, would give the same
    image."""
    made = image.document["groundplan"]
    try:
        known = made["made_by"] == _made_by(bases.find(made["base"]))
    except LookupError:
        return False
    return known and (made.get("commands") != SKIPPED or bool(_unavailable()))


def _unavailable() -> str:
    """Return why commands of a Dockerfile cannot run on this machine, or "" if they can."""
    return namespaces.unavailable(envs.home(), kept=True)


def _made_by(base: bases.Base) -> str:
    return _digest([FORMAT, base.fingerprint])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _document(stage: Stage, manifest: str, skipped: bool) -> dict[str, Any]:
    """Return the image's configuration (OCI image specification), with Groundplan's own fields."""
    content = [_listed(stage.files), _environment_key(stage)]
    for command in stage.commands:
        content.append([command.words, command.environment, command.workdir, _listed(command.files)])
    config: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in stage.environment.items()],
        "Entrypoint": stage.entrypoint,
        "Cmd": stage.command,
        "WorkingDir": stage.workdir,
        "User": stage.user,
        "Labels": stage.labels,
        "ExposedPorts": stage.ports,
    }
    if stage.stop_signal:
        config["StopSignal"] = stage.stop_signal
    if stage.health_check:
        config["Healthcheck"] = {"Test": ["CMD-SHELL", stage.health_check]}
    return {
        "architecture": stage.architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(content)}"]},
        "groundplan": {
            "base": stage.base.reference,
            "prefix": stage.base.prefix,
            "made_by": _made_by(stage.base),
            **({"manifest": manifest} if manifest != "docker" else {}),
            **({"commands": SKIPPED if skipped else "run"} if stage.commands else {}),
        },
    }


def _listed(files: dict[str, Entry]) -> list[Any]:
    found = []
    for path, entry in sorted(files.items()):
        digest = None
        if entry.source:
            with entry.source.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        found.append([path, entry.executable, entry.link, digest])
    return found


def _environment_key(stage: Stage) -> str:
    """Return the name of the environment with the stage's packages. Images with the same packages share
    it."""
    installs = [
        [install.arguments, {name: data.decode() for name, data in install.files.items()}]
        for install in stage.installs
    ]
    return f"image-{_digest([stage.base.fingerprint, installs])[:16]}"


def _make_environment(stage: Stage, folder: Path) -> None:
    # Compile bytecode, as pip does: containers cannot write it, and would compile at every start
    steps = [["install", "--compile-bytecode", *stage.base.packages]] if stage.base.packages else []
    origin: list[Instruction | None] = [None] * len(steps)
    with tempfile.TemporaryDirectory(prefix="groundplan-") as temporary:
        for number, install in enumerate(stage.installs):
            for name, data in install.files.items():
                path = Path(temporary, str(number), name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            arguments = (f"{number}/{each}" if each in install.files else each for each in install.arguments)
            steps.append(["install", "--compile-bytecode", *arguments])
            origin.append(install.instruction)
        try:
            envs.make(folder, folder.name, "the Dockerfile", steps, stage.base.interpreter, Path(temporary))
        except subprocess.CalledProcessError as error:
            # Show the instruction, not the command: the URL of a package index may contain a password
            for step, instruction in zip(steps, origin, strict=True):
                if instruction and error.cmd[-len(step[1:]) :] == step[1:]:
                    raise instruction.error(
                        "the packages could not be installed; the output above has the reason"
                    ) from None
            raise BuildError(
                f"Python {stage.base.python} could not be set up; the output above has the reason"
            ) from None


def _fill(stage: Stage, draft: Path, environment: Path, skipped: str, say: Callable[[str], None]) -> None:
    """Write the image's files and run its commands, in the order of the Dockerfile."""
    root = draft / "root"
    root.mkdir()
    there: dict[str, Entry] = {}
    for command in stage.commands:
        shown = f"RUN {command.instruction.value}"[:100]
        if skipped:
            say(f"{shown}: not run: it needs Linux namespaces, which are not available: {skipped}")
            continue
        _write_files(command.files, there, root)
        there = command.files
        say(f"  running {shown}")
        for line in commands.run(
            command, root, environment, stage.base.prefix, draft / "layers"
        ).splitlines():
            say(f"    {line}")
    _write_files(stage.files, there, root)


def _write_files(files: dict[str, Entry], there: dict[str, Entry], root: Path) -> None:
    """Write the entries of `files` that are not in `there`."""
    for path, entry in sorted(files.items()):
        if there.get(path) is entry:
            continue
        here = root / path[1:]
        if not entry.folder:
            here.unlink(missing_ok=True)
        if entry.link is not None:
            here.symlink_to(entry.link)
        elif entry.source is None:
            here.mkdir(exist_ok=True)
        else:
            shutil.copyfile(entry.source, here)
            # Read-only, because all containers of the image share these files
            here.chmod(0o555 if entry.executable else 0o444)


def _check_entry(stage: Stage, draft: Image) -> None:
    if not [*stage.entrypoint, *stage.command]:
        return
    try:
        draft.launch([])
    except FileNotFoundError as error:
        reason = str(error).replace(f"image {draft.id[:12]}", "the image")
        raise (stage.entry.error(reason) if stage.entry else BuildError(reason)) from None
