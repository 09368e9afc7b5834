"""Containers in Linux namespaces: their file system, their start, and whether this machine supports them.

A container can access its image, this machine's `/usr` in place of the image's system, `/opt/ml`, and a
private `/proc`, `/dev`, `/tmp` and `/etc/hosts`. Files that it writes outside of `/opt/ml` go to a private
layer, which is removed with the container. A container cannot access anything else on this machine, such as
home directories, the state of the cloud and folders of other jobs. It uses this machine's network unless it
is isolated. An isolated container has a private network namespace, or shares one with the other hosts of its
job. The program `namespaces_init.py` sets all this up.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from local.images.store import PASSED_ON
from local.namespaces_init import FOLDERS, layer

KILL = signal.SIGUSR1
"""Signal that makes a container's supervisor process kill the whole container."""

_NUMBERED = re.compile(r"\[Errno (\d+)\] (.*)", re.DOTALL)
"""Format in which the init process reports an error with its errno."""
_INIT = Path(__file__).with_name("namespaces_init.py")
_BASE = "/.python"
"""Path of the base interpreter's files in the container, if the container has other files at their path."""

_PYTHON = (
    *("lib/python3.[0-9]*", "lib64/python3.[0-9]*", "include/python3.[0-9]*"),
    *("lib/*.so", "lib/*.so.*", "ssl/cert.pem", "ssl/cacert.pem"),
)
"""Paths below an interpreter's prefix that a container needs. The whole prefix is not mounted, because it may
be a user's home."""

_SYSTEM = "/sys/devices/system"
"""Folder in which programs read the number of processors and the size of memory."""

_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "os-release", "pki/ca-trust",
    "pki/tls/certs", "protocols", "resolv.conf", "services", "ssl/certs", "ssl/openssl.cnf", "terminfo",
    "timezone",
)  # fmt: skip
"""Files in this machine's `/etc` that programs in containers need. None contains secrets."""

_ACCOUNTS = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
}


_trying = threading.Lock()
TRIAL_SECONDS = 60
TRANSIENT = frozenset(
    {errno.EAGAIN, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ETIMEDOUT}
)
"""Errors of a trial container that do not show whether the kernel supports namespaces."""


def unavailable(home: Path, kept: bool = False) -> str:
    """Return why containers cannot have namespaces on this machine, or "" if they can.

    A trial container is started once per process, and again after a transient failure: a limit of time,
    memory, open files or disk space was reached.

    :param home: folder for the trial's files
    :param kept: whether files that the container writes must stay on disk, so that `written` can yield them
    """
    with _trying:
        try:
            return _unavailable(home, kept)
        except OSError as error:
            return str(error)


@functools.cache
def _unavailable(home: Path, kept: bool = False) -> str:
    if sys.platform != "linux":
        return f"only Linux has namespaces, and this machine has {sys.platform}"
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=home, prefix=".namespaces-"))
    try:
        (folder / "ml").mkdir()
        program = ["/bin/bash", "-c", "exec python -c 'import ctypes, ssl'"]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        space = layout(None, Path(sys.prefix), "/usr/local", folder / "ml", folder / "scratch", "algo-1", {})
        space |= {"command": program, "environment": environment, "directory": "/", "kept": kept}
        process = start(space, lambda pid: None)
        try:
            said, _ = process.communicate(timeout=TRIAL_SECONDS)
        except subprocess.TimeoutExpired:
            raise OSError(
                errno.ETIMEDOUT, f"a trial container took longer than {TRIAL_SECONDS} seconds"
            ) from None
        finally:
            process.send_signal(KILL)
            process.wait()
        if process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
            raise OSError(errno.ENOMEM, "a trial container was killed, probably because memory ran out")
        return (
            said.strip() or f"a trial container exited with {process.returncode}"
            if process.returncode
            else ""
        )
    except OSError as error:
        if error.errno in TRANSIENT:
            raise  # exceptions are not cached
        return str(error)
    finally:
        remove(folder)


def layout(
    files: Path | None,
    environment: Path,
    prefix: str,
    opt_ml: Path | None,
    scratch: Path,
    name: str,
    peers: Mapping[str, str],
) -> dict[str, Any]:
    """Return the description of a container's file system and host name, for `namespaces_init.py`.

    :param files: folder with the image's files; None if the image has none
    :param environment: the image's Python environment on this machine
    :param prefix: path of that environment in the container
    :param opt_ml: folder to mount as `/opt/ml`; None for the image's own `/opt/ml`
    :param scratch: folder for files that the container writes outside of `/opt/ml`
    :param name: host name of the container
    :param peers: addresses by host name, including this container's
    """
    environment = environment.resolve()
    overlays: dict[str, list[Path]] = {"/": [], "/usr": [Path("/usr")], "/usr/local": []}
    overlays.setdefault(prefix, []).insert(0, environment)
    links = {str(environment): prefix}  # programs that pip installed have this path in their first line
    for top in _TOP:
        here, own = Path("/", top), files is not None and (files / top).is_dir()
        if here.is_symlink() and not own:
            links[str(here)] = str(here.readlink())
        elif here.is_dir():
            overlays[str(here)] = [here.resolve()]
    if (environment / "lib64").is_symlink() and prefix == "/usr" and Path("/usr/lib64").is_dir():
        overlays["/usr/lib64"] = [Path("/usr/lib64")]  # the environment's link would hide the folder
    for path, lower in overlays.items():
        if files is not None and (files / path[1:]).is_dir():
            lower.insert(0, files / path[1:])
    binds: list[tuple[str, str, bool]] = [(str(opt_ml), "/opt/ml", True)] if opt_ml else []
    written = {
        "/etc/hostname": f"{name}\n",
        "/etc/hosts": "".join(
            f"{address} {host}\n" for host, address in ({"localhost": "127.0.0.1"} | dict(peers)).items()
        ),
    }
    for path, text in _ACCOUNTS.items():
        if files is None or not (files / path[1:]).exists():
            written[path] = text
    seen = [Path(_SYSTEM), *(Path("/etc", each) for each in _ETC)]
    seen += [Path(os.environ[each]).absolute() for each in PASSED_ON if os.environ.get(each)]
    for path in seen:
        own = files is not None and (files / str(path)[1:]).exists()
        shown = any(path.is_relative_to(each) for each in ("/usr", *(target for _, target, _ in binds)))
        if path.exists() and not own and not shown:
            binds.append((str(path.resolve()), str(path), False))
    interpreter = _interpreter(environment, prefix, binds, links)
    # `bin/python` and `pyvenv.cfg` refer to the interpreter by its path in the container
    links[f"{prefix}/bin/python"] = str(interpreter)
    settings = (environment / "pyvenv.cfg").read_text().splitlines(keepends=True)
    own = [line for line in settings if line.partition("=")[0].strip() != "home"]
    written[f"{prefix}/pyvenv.cfg"] = "".join([f"home = {interpreter.parent}\n", *own])
    return {
        "name": name,
        "scratch": str(scratch),
        "overlays": [(path, [str(each) for each in overlays[path]]) for path in sorted(overlays)],
        "binds": binds,
        "links": links,
        "files": written,
    }


def _interpreter(
    environment: Path, prefix: str, binds: list[tuple[str, str, bool]], links: dict[str, str]
) -> Path:
    """Return the path of the environment's base interpreter in the container.

    Adds the mounts and links that it needs to `binds` and `links`."""
    here = (environment / "bin" / "python").resolve()
    base = here.parent.parent
    inside = base
    if str(base) in (prefix, "/usr/local"):  # the container has other files there
        inside = Path(_BASE)
        for library in (base / "lib").glob("libpython*.so*") if str(base) == "/usr/local" else ():
            links[str(library)] = f"{_BASE}/lib/{library.name}"  # where the dynamic linker searches
    elif base == Path("/") or (base.is_relative_to("/usr") and not base.is_relative_to("/usr/local")):
        return here  # visible as part of this machine's /usr
    for path in sorted({here, *(each for pattern in _PYTHON for each in base.glob(pattern))}):
        if path.exists():
            binds.append((str(path.resolve()), str(inside / path.relative_to(base)), False))
    return inside / here.relative_to(base)


def start(space: dict[str, Any], adopt: Callable[[int], None]) -> subprocess.Popen[str]:
    """Start a container's command. Return the supervisor process, which has the command's output and exit
    code.

    The supervisor forwards SIGTERM to the command. On the signal `KILL` it kills everything in the container,
    then ends. Raises OSError if the command cannot be started.

    :param space: the result of `layout`, to which command, environment and working directory were added
    :param adopt: called with the supervisor's process ID before the container is set up
    """
    report, told = os.pipe()
    with os.fdopen(report, errors="replace") as reason:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", str(_INIT), str(told)],
                cwd="/",
                env={},
                pass_fds=[told],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                encoding="utf-8",
                errors="replace",
            )
        finally:
            os.close(told)
        adopt(process.pid)
        assert process.stdin is not None  # noqa: S101 - narrows the type
        with contextlib.suppress(BrokenPipeError), process.stdin as stream:
            json.dump(space, stream)
        process.stdin = None
        if why := reason.read():
            with process:
                process.wait()
            raise OSError(*((int(told[1]), told[2]) if (told := _NUMBERED.fullmatch(why)) else (why,)))
    return process


def written(space: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the files, folders and links that an ended container added or changed. `space` must have `kept`
    set.

    Yields each path in the container with its path on this machine. Paths below `FOLDERS` are left out.
    Raises ValueError naming a path that was removed or replaced, or is not a file, folder or link.
    """
    shown = {path for _, path, _ in space["binds"]}
    given = {*shown, *space["files"], *space["links"]}
    above = {str(parent) for path in (*given, *FOLDERS) for parent in Path(path).parents}
    overlays = dict(space["overlays"])
    for over, lower in overlays.items():
        upper = Path(layer(space["scratch"], over), "upper")
        for here, folders, names in os.walk(upper):
            for name in sorted((*folders, *names)):
                place = Path(here, name)
                inside = str(Path(over, place.relative_to(upper)))
                if inside in FOLDERS or inside in shown or inside in overlays:
                    folders[:] = [each for each in folders if each != name]
                elif not _given(space, inside, place) and not (inside in above and _is_folder(place)):
                    _check_kind(inside, place, [Path(each, place.relative_to(upper)) for each in lower])
                    yield inside, place


def _given(space: dict[str, Any], inside: str, place: Path) -> bool:
    """Return whether a path is one of the links or files that `layout` added to the container."""
    if place.is_symlink():
        return space["links"].get(inside) == str(place.readlink())
    text = space["files"].get(inside)
    return text is not None and place.is_file() and place.read_text(errors="replace") == text


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _check_kind(inside: str, place: Path, below: list[Path]) -> None:
    kind = place.lstat()
    if stat.S_ISCHR(kind.st_mode) and kind.st_rdev == 0:  # an overlay marks a removed file by such a device
        raise ValueError(f"{inside} was removed")
    if not stat.S_ISREG(kind.st_mode) and not stat.S_ISDIR(kind.st_mode) and not stat.S_ISLNK(kind.st_mode):
        raise ValueError(f"{inside} is neither a file, a folder nor a symbolic link")
    hidden = next((each for each in below if os.path.lexists(each)), None)
    if hidden is None:
        return
    opaque = "user.overlay.opaque" in os.listxattr(place, follow_symlinks=False)
    if _is_folder(hidden) != _is_folder(place) or (opaque and _is_folder(place)):
        raise ValueError(f"{inside} was replaced")


def remove(folder: Path) -> None:
    """Remove a folder, even if a container or an overlay made folders in it inaccessible to their owner."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.is_dir():
        folder.chmod(0o700)
        for path, names, _ in os.walk(folder):
            for each in (Path(path, name) for name in names):
                if not each.is_symlink():
                    each.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)
