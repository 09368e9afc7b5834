"""Program that the CDK calls instead of docker: builds, tags and pushes images without a container engine.

Set CDK_DOCKER to the result of `local.images.launcher`. Only the commands and options that the CDK uses are
supported; others are refused. Progress is printed to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from local.images import store
from local.images.dockerfile import BuildError
from tooling.envs import say


def login(options: argparse.Namespace) -> None:
    if not sys.stdin.read().strip():
        raise BuildError(f"could not log in to {options.registry}: standard input has no password")
    say("Login Succeeded")  # nothing is stored: a push is signed with the caller's AWS credentials


def inspect(options: argparse.Namespace) -> None:
    from local.images.build import current

    image = store.find(options.image)
    if not current(image):
        raise LookupError(
            f"{options.image} was built with another base or by another version of local.images: rebuild it"
        )
    tags = [name for name, identifier in store.tags().items() if identifier == image.id]
    shown = {"Id": f"sha256:{image.id}", "RepoTags": tags, "Config": image.config}
    print(json.dumps([shown | {"Architecture": image.document["architecture"], "Os": "linux"}], indent=4))


def manifest(outputs: list[str]) -> str:
    """Return the format of the image's manifest, `docker` or `oci`, for the given values of `--output`.

    As in BuildKit 0.31, Docker's media types are used only with `oci-mediatypes=false`, whatever the output
    type. Raises `BuildError` for an unsupported output type or attribute.
    """
    if len(outputs) > 1:
        raise BuildError("--output must be given only once")
    parts = (part.partition("=") for part in (outputs or ["type=image"])[0].split(","))
    given = {name: value for name, _, value in parts}
    if given.pop("type", None) not in ("docker", "image") or set(given) - {"oci-mediatypes"}:
        raise BuildError(
            f"--output {outputs[0]} is not supported, only type=docker and type=image are,"
            " with or without oci-mediatypes"
        )
    return "docker" if given.get("oci-mediatypes") == "false" else "oci"


def build(options: argparse.Namespace) -> None:
    from local.images.build import build

    system, _, architecture = options.platform.partition("/")
    if system != "linux" or architecture not in ("amd64", "arm64"):
        raise BuildError(f"--platform must be linux/amd64 or linux/arm64, got {options.platform}")
    pairs = [argument.partition("=") for argument in options.build_arg]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise BuildError(f"--build-arg must be NAME=VALUE, got {wrong[0]}")
    if not options.context.is_dir():
        raise BuildError(f"the build context {options.context} is not a folder")
    arguments = {name: value for name, _, value in pairs}
    format = manifest(options.output)
    image = build(options.context, options.file, arguments, options.target, architecture, format)
    for name in options.tag:
        store.tag(image, name)


def tag(options: argparse.Namespace) -> None:
    store.tag(store.find(options.image), options.name)


def push(options: argparse.Namespace) -> None:
    from local.images.registry import push

    image = store.find(options.name)
    push(image, options.name)
    say(f"{options.name}: pushed {image.id[:12]}")


def list_(options: argparse.Namespace) -> None:
    tags = store.tags()
    for image in reversed(store.images()):
        names = [name for name, identifier in tags.items() if identifier == image.id] or ["<none>"]
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(image.folder.stat().st_mtime))
        for name in names:
            print(f"{image.id[:12]}  {made}  {image.document['groundplan']['base']}  {name}")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="docker (local images)", description=__doc__, allow_abbrev=False)
    # If the CDK has registry credentials, it passes their folder here. They are not needed
    parser.add_argument("--config", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(run=run)
        return added

    one = command("login", login, "accept a registry's password without using it")
    one.add_argument("--username", "-u", required=True)
    one.add_argument("--password-stdin", action="store_true", required=True)
    one.add_argument("registry")
    one = command("inspect", inspect, "show an image; exits with 1 if it does not exist")
    one.add_argument("image")
    one = command("build", build, "build the Dockerfile in a folder")
    one.add_argument("context", type=Path)
    one.add_argument("--tag", "-t", action="append", default=[])
    one.add_argument("--file", "-f", type=Path)
    one.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    one.add_argument("--target")
    one.add_argument("--platform", default="linux/amd64")
    one.add_argument("--output", "-o", action="append", default=[], metavar="type=TYPE")
    one = command("tag", tag, "give an image another name")
    one.add_argument("image")
    one.add_argument("name")
    one = command("push", push, "record an image in the local cloud's ECR")
    one.add_argument("name")
    command("list", list_, "list the images on this machine, newest first")
    return parser


def main() -> int:
    options = arguments().parse_args()
    try:
        options.run(options)
    except (BuildError, LookupError) as error:
        say(f"error: {error.args[0]}")
        return 1
    except OSError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
