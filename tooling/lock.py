"""Resolve `requirements.in` files into their `requirements.txt`.

    python3.11 -m tooling.lock                                   # all files, with the newest versions
    python3.11 -m tooling.lock containers/power_bidding/model    # the file of a folder, without upgrades

A folder's file is resolved together with the files that include it by `-r`, each after the files that it
includes. Versions that are locked and still fit are kept.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

from tooling import envs

SOURCE, LOCK, PROVIDED = "requirements.in", "requirements.txt", "provided.txt"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3.11 -m tooling.lock", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "folder", nargs="?", help="resolve only its file and the files that include it, without upgrades"
    )
    folder = parser.parse_args(arguments).folder
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", f"*{SOURCE}"],
        cwd=envs.ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    sources = [envs.ROOT / each for each in listed.stdout.split()]
    if folder is not None:
        source = Path(folder).resolve() / SOURCE
        if source not in sources:
            parser.error(f"folder must have a {SOURCE}, got {folder}")
        sources = dependents(source, sources)
    for source in ordered(sources):
        print(f"  {source.relative_to(envs.ROOT)}", flush=True)
        done = subprocess.run(
            command(source, upgrade=folder is None), cwd=envs.ROOT, env=envs.pip_settings() | os.environ
        )
        if done.returncode:
            return done.returncode
    return 0


def included(source: Path) -> set[Path]:
    """Return the `requirements.in` files that a file includes by `-r`, directly or as `requirements.txt`."""
    lines = (line.split() for line in source.read_text().splitlines())
    paths = {(source.parent / line[1]).resolve() for line in lines if line[:1] == ["-r"]}
    return {path.with_name(SOURCE) for path in paths if path.name in (SOURCE, LOCK)}


def ordered(sources: Iterable[Path]) -> list[Path]:
    """Return the files in an order in which each comes after the files that it includes."""
    wanted = sorted(sources)
    graph = {source: sorted(included(source) & set(wanted)) for source in wanted}
    return list(TopologicalSorter(graph).static_order())


def dependents(source: Path, sources: Iterable[Path]) -> list[Path]:
    """Return a file and all files that include it, directly or through others."""
    found = {source}
    for each in ordered(sources):
        if included(each) & found:
            found.add(each)
    return sorted(found)


def command(source: Path, upgrade: bool) -> list[str]:
    """Return the command that resolves a file; the command must run in the project's folder."""
    provided = source.with_name(PROVIDED)
    path = source.relative_to(envs.ROOT)
    return [
        *(str(envs.uv()), "pip", "compile", "--quiet", "--python-version", "3.11"),
        *("--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make lock"),
        *(["--upgrade"] if upgrade else []),
        *(["--excludes", str(provided.relative_to(envs.ROOT))] if provided.exists() else []),
        *(str(path), "--output-file", str(path.with_name(LOCK))),
    ]


if __name__ == "__main__":
    sys.exit(main())
