"""Built images on this machine, each a folder named by the hash of what went into it.

    images/<id>/image.json    the image's configuration, registries' own format; its SHA-256 is the id
    images/<id>/root/         the files that the Dockerfile copied or its commands wrote, by paths inside
    images/<id>/env           link to the virtual environment, which images with the same packages share
    images/tags/<name>        the id that a name such as REPOSITORY:TAG stands for

A container in namespaces of its own finds all of it under the paths inside the image (`inside`). For one that
runs as a plain process (`launch`), paths in the image's configuration (ENTRYPOINT, CMD, WORKDIR, ENV) are
turned into paths on this machine; what a program opens by an absolute path of its own is this machine's.
"""

from __future__ import annotations

import functools
import json
import os
import posixpath
import shutil
import tempfile
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tooling import envs

MANIFEST_TYPES = {
    "docker": (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.container.image.v1+json",
    ),
    "oci": ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"),
}
"""The media types of an image's manifest and of its configuration, by the format it was built in."""

PASSED_ON = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
"""All that a program gets of this machine's environment: which certificates the network is trusted by."""

SYSTEM_PROGRAMS = {
    "bash", "cat", "cp", "date", "echo", "env", "false", "hostname", "id", "ls", "mkdir", "mv", "nice",
    "nohup", "printenv", "rm", "sh", "sleep", "stdbuf", "tail", "test", "timeout", "touch", "true",
}  # fmt: skip
"""This machine's own programs that an image may name: those of every base image."""


@dataclass(frozen=True)
class Image:
    """One built image, in a folder as described above."""

    id: str
    folder: Path

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """The whole of `image.json`."""
        return json.loads((self.folder / "image.json").read_text())

    @property
    def config(self) -> dict[str, Any]:
        """Env, Entrypoint, Cmd, WorkingDir, User, Labels, ExposedPorts: as `docker inspect` names them."""
        return self.document["config"]

    @property
    def intact(self) -> bool:
        """Whether it is here whole: its folder, its environment and the Python this was made with."""
        return (self.folder / "image.json").exists() and envs.made(self.folder / "env")

    @property
    def manifest_type(self) -> str:
        """The media type of its manifest."""
        return self._media_types[0]

    @property
    def _media_types(self) -> tuple[str, str]:
        return MANIFEST_TYPES[self.document["groundplan"].get("manifest", "docker")]

    @property
    def manifest(self) -> str:
        """What a registry keeps of the image: a manifest whose configuration's digest is the image's id."""
        config = {
            "mediaType": self._media_types[1],
            "size": (self.folder / "image.json").stat().st_size,
            "digest": f"sha256:{self.id}",
        }
        manifest = {"schemaVersion": 2, "mediaType": self.manifest_type, "config": config, "layers": []}
        return json.dumps(manifest, indent=3)

    def launch(
        self, args: list[str], entrypoint: list[str] | None = None
    ) -> tuple[list[str], dict[str, str], Path]:
        """How `docker run [--entrypoint ENTRYPOINT...] IMAGE ARGS...` starts here: the command line, the
        image's own environment (paths inside the image turned into paths on this machine) and the working
        directory. `entrypoint` replaces the image's own, and its default command with it.

        Of this machine's environment only `PASSED_ON` is included; HOME and TMPDIR are the caller's to give.
        Raises FileNotFoundError where the image does not have the program.
        """
        command, environment, workdir = self.inside(args, entrypoint)
        own = dict(item.split("=", 1) for item in self.config["Env"])
        environment |= {name: self._relocated(value) for name, value in own.items()}
        environment["PATH"] = ":".join(self._search_path(own.get("PATH", "")))
        program = self._program(command[0], own.get("PATH", ""))
        directory = self.folder / "root" / workdir[1:]
        return [program, *map(self._relocated_argument, command[1:])], environment, directory

    def inside(
        self, args: list[str], entrypoint: list[str] | None = None
    ) -> tuple[list[str], dict[str, str], str]:
        """The same with all paths as they are inside the image. Whether it has the program is not looked at.

        Raises FileNotFoundError where there is no command.
        """
        config = self.config
        command = (
            [*config["Entrypoint"], *(args or config["Cmd"])] if entrypoint is None else [*entrypoint, *args]
        )
        if not command:
            raise FileNotFoundError(f"image {self.id[:12]} has neither an entry point nor a command")
        environment = {"TZ": "UTC"} | {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= dict(item.split("=", 1) for item in config["Env"])
        return command, environment, posixpath.join("/", config["WorkingDir"])

    def _places(self, path: str) -> list[str]:
        """Where an absolute path inside the image lies here: among its files, in its environment, in both."""
        if not path.startswith("/") or path.startswith("//") or path == "/":
            return []
        path = posixpath.normpath(path)
        places = [self.folder / "root" / path[1:]]
        prefix = self.document["groundplan"]["prefix"]
        if path == prefix or path.startswith(prefix + "/"):
            places.append(self.folder / "env" / posixpath.relpath(path, prefix))
        return [str(place) for place in places if os.path.lexists(place)]

    def _relocated(self, value: str) -> str:
        """A path, or several joined by colons, with those inside the image moved."""
        return ":".join((self._places(part) or [part])[0] for part in value.split(":"))

    def _relocated_argument(self, argument: str) -> str:
        option, equals, value = argument.partition("=")
        if option.startswith("-") and equals:
            return f"{option}={self._relocated(value)}"
        return self._relocated(argument)

    def _search_path(self, path: str) -> list[str]:
        folders = [place for part in path.split(":") for place in self._places(part) or [part]]
        return list(dict.fromkeys(filter(None, folders)))

    def _program(self, name: str, path: str) -> str:
        """The image's own program of that name, or one of `SYSTEM_PROGRAMS`; no other of this machine's."""
        names = [name] if "/" in name else [posixpath.join(part, name) for part in path.split(":")]
        if "/" in name and not name.startswith("/"):
            names = [posixpath.join(self.config["WorkingDir"], name)]
        for place in (place for each in names for place in self._places(each)):
            if Path(place).is_file() and os.access(place, os.X_OK):
                return place
        folder, program = posixpath.split(name)
        known = program in SYSTEM_PROGRAMS and folder in ("", "/bin", "/usr/bin")
        if known and (found := shutil.which(program, path=folder or "/usr/bin:/bin")):
            return found
        raise FileNotFoundError(f"image {self.id[:12]} has no program {name} (an executable file)")


def folder() -> Path:
    """Where images are kept: `images` in GROUNDPLAN_HOME."""
    return envs.home() / "images"


def images() -> list[Image]:
    """Every image that is here whole, oldest first."""
    found = [Image(path.parent.name, path.parent) for path in folder().glob("[!.]*/image.json")]
    return sorted((image for image in found if image.intact), key=lambda image: image.folder.stat().st_mtime)


def tags() -> dict[str, str]:
    """Each name given to an image, and that image's id."""
    names = sorted((folder() / "tags").glob("[!.]*"))
    return {urllib.parse.unquote(path.name): path.read_text() for path in names}


def tag(image: Image, name: str) -> None:
    """Let `name`, such as REPOSITORY:TAG, stand for the image; it stops standing for another."""
    target = folder() / "tags" / urllib.parse.quote(name, safe="")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=".", delete=False) as draft:
        draft.write(image.id)
    Path(draft.name).replace(target)


def find(name: str) -> Image:
    """The image behind a name, or an id (at least twelve digits of it). Raises `LookupError`."""
    name = name.removeprefix("sha256:")
    identifier = tags().get(name) or name
    for image in images():
        if image.id == identifier or (len(identifier) >= 12 and image.id.startswith(identifier)):
            return image
    raise LookupError(f"there is no image {name} on this machine")


def resolve(manifest: str) -> Image:
    """The image that a registry's manifest describes. Raises `LookupError` when it is not on this machine."""
    try:
        identifier = json.loads(manifest)["config"]["digest"].removeprefix("sha256:")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LookupError("the manifest is not one of an image that was built on this machine") from None
    image = Image(identifier, folder() / identifier)
    if len(identifier) != 64 or not identifier.isalnum() or not image.intact:
        raise LookupError(f"image {identifier[:12]} is not on this machine any more: build and push it again")
    return image
