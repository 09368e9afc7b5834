"""Built images on this machine. Each image is a folder whose name is its ID.

    images/<id>/image.json    the image's configuration in the format of registries; its SHA-256 is the ID
    images/<id>/root/         files that the Dockerfile copied or its commands wrote, by path in the image
    images/<id>/env           link to the virtual environment, which images with the same packages share
    images/tags/<name>        the ID of the image with a name such as REPOSITORY:TAG

A container in Linux namespaces has these files at their paths in the image (`inside`). For a container that
runs as a plain process (`launch`), paths in the image's configuration (ENTRYPOINT, CMD, WORKDIR, ENV) are
converted to paths on this machine. Other absolute paths that the program opens are paths on this machine.
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
"""Media types of an image's manifest and of its configuration, by the manifest's format."""

PASSED_ON = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
"""The only variables that a program gets from this machine's environment: they name trusted certificates."""

SYSTEM_PROGRAMS = {
    "bash", "cat", "cp", "date", "echo", "env", "false", "hostname", "id", "ls", "mkdir", "mv", "nice",
    "nohup", "printenv", "rm", "sh", "sleep", "stdbuf", "tail", "test", "timeout", "touch", "true",
}  # fmt: skip
"""Programs of this machine that an image may use, because every base image has them."""


@dataclass(frozen=True)
class Image:
    """One built image, in a folder as the module's docstring describes."""

    id: str
    folder: Path

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """The content of `image.json`."""
        return json.loads((self.folder / "image.json").read_text())

    @property
    def config(self) -> dict[str, Any]:
        """Env, Entrypoint, Cmd, WorkingDir, User, Labels and ExposedPorts, named as in `docker inspect`."""
        return self.document["config"]

    @property
    def intact(self) -> bool:
        """Whether the image is complete: its folder, its environment, and the environment's Python."""
        return (self.folder / "image.json").exists() and envs.made(self.folder / "env")

    @property
    def manifest_type(self) -> str:
        """Media type of the manifest."""
        return self._media_types[0]

    @property
    def _media_types(self) -> tuple[str, str]:
        return MANIFEST_TYPES[self.document["groundplan"].get("manifest", "docker")]

    @property
    def manifest(self) -> str:
        """The manifest for registries. The digest of its configuration is the image's ID."""
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
        """Return how to run the image as a plain process: command line, environment and working directory.

        The arguments are those of `docker run [--entrypoint ENTRYPOINT...] IMAGE ARGS...`. Returned paths are
        paths on this machine. The environment has the image's variables and `PASSED_ON`; the caller adds HOME
        and TMPDIR. Raises FileNotFoundError if the image does not have the program.

        :param entrypoint: replaces the image's entry point and default command
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
        """Return the same as `launch`, but with paths in the image. The program may not exist.

        Raises FileNotFoundError if the command line is empty.
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
        """Return the paths on this machine, in the image's `root` and `env`, that an absolute path in the
        image has."""
        if not path.startswith("/") or path.startswith("//") or path == "/":
            return []
        path = posixpath.normpath(path)
        places = [self.folder / "root" / path[1:]]
        prefix = self.document["groundplan"]["prefix"]
        if path == prefix or path.startswith(prefix + "/"):
            places.append(self.folder / "env" / posixpath.relpath(path, prefix))
        return [str(place) for place in places if os.path.lexists(place)]

    def _relocated(self, value: str) -> str:
        """Convert a path in the image, or several joined by colons, to paths on this machine."""
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
        """Return the path of a program of the image, or of `SYSTEM_PROGRAMS`. Raises FileNotFoundError."""
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
    """Return the folder of all images: `images` in GROUNDPLAN_HOME."""
    return envs.home() / "images"


def images() -> list[Image]:
    """Return all complete images, oldest first."""
    found = [Image(path.parent.name, path.parent) for path in folder().glob("[!.]*/image.json")]
    return sorted((image for image in found if image.intact), key=lambda image: image.folder.stat().st_mtime)


def tags() -> dict[str, str]:
    """Return the IDs of images by name."""
    names = sorted((folder() / "tags").glob("[!.]*"))
    return {urllib.parse.unquote(path.name): path.read_text() for path in names}


def tag(image: Image, name: str) -> None:
    """Give the image a name, such as REPOSITORY:TAG. If another image has the name, that image loses it."""
    target = folder() / "tags" / urllib.parse.quote(name, safe="")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=".", delete=False) as draft:
        draft.write(image.id)
    Path(draft.name).replace(target)


def find(name: str) -> Image:
    """Return the image with a name or an ID (at least twelve digits of it). Raises `LookupError`."""
    name = name.removeprefix("sha256:")
    identifier = tags().get(name) or name
    for image in images():
        if image.id == identifier or (len(identifier) >= 12 and image.id.startswith(identifier)):
            return image
    raise LookupError(f"there is no image {name} on this machine")


def resolve(manifest: str) -> Image:
    """Return the image of a registry's manifest. Raises `LookupError` if it is not on this machine."""
    try:
        identifier = json.loads(manifest)["config"]["digest"].removeprefix("sha256:")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LookupError("the manifest must be of an image that was built on this machine") from None
    image = Image(identifier, folder() / identifier)
    if len(identifier) != 64 or not identifier.isalnum() or not image.intact:
        raise LookupError(f"image {identifier[:12]} is not on this machine any more: build and push it again")
    return image
