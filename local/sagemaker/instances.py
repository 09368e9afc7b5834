"""Local instances: containers in namespaces, each with a folder `/opt/ml` and an address.

They are the hosts of jobs and the containers of endpoints. As on SageMaker, a container has files below
`/opt/ml`, environment variables, a host name and a port. Its output is read line by line. If the machine does
not support namespaces, the container is a plain process group: it finds `/opt/ml` through
`SAGEMAKER_BASE_DIR`, its host name is its address, and it can access the same files as the cloud's owner.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

from local import namespaces
from local.images.store import Image
from local.sagemaker import isolation
from local.sagemaker.platform import Platform

PORT = 8080
LONGEST_LINE = 16_384
"""Maximum characters of a line of output. Longer lines are split, as by Docker."""

PLAIN = "Groundplan: this container is not isolated. Containers run as "
"""Start of the first log line of a container without namespaces. The rest is how containers run, and why."""

_OWN = f"{uuid.uuid4().hex[:6]}-"
"""Prefix of the names of the folders of instances that this process creates."""

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BELOW_OPT_ML = re.compile(r"""(^|[\s:='"])/opt/ml(?=[\s:/'"]|$)""")
_ECR_ADDRESS = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[^/]+/([^:@]+)")
_RESERVATION_PORT = 28_610  # below the systems' ranges of ephemeral ports
OPT_ML = (
    "input/config",
    "input/data",
    "model",
    "code",
    "checkpoints",
    "output/data",
)


class NoAddressError(Exception):
    """This machine has no free loopback address, or only one where several are needed."""


class LoopbackAddress:
    """A loopback address that is reserved for one instance on the whole machine, until `release`.

    The reservation is a bound socket. It ends with this process, even if the process is killed. Other local
    clouds on the machine do not use reserved addresses. `port` is 8080, or a free port if 8080 is taken, for
    example by a program that listens on every address.
    """

    def __init__(self, name: str, port: int, reservation: socket.socket | None):
        self.name, self.port, self._reservation = name, port, reservation

    def release(self) -> None:
        if self._reservation is not None:
            self._reservation.close()


def reserve(count: int = 1) -> list[LoopbackAddress]:
    """Reserve `count` loopback addresses. If there are too few, reserve none and raise `NoAddressError`."""
    if not _bindable("127.0.0.2", 0):  # macOS configures 127.0.0.1 only
        if count == 1:
            return [LoopbackAddress("127.0.0.1", _free_port("127.0.0.1"), None)]
        raise NoAddressError(
            f"{count} instances need a loopback address each and this machine has only 127.0.0.1: "
            "add more (on macOS: sudo ifconfig lo0 alias 127.0.0.2), or use one instance"
        )
    hosts: list[LoopbackAddress] = []
    for _ in range(50 * count):
        if len(hosts) == count:
            return hosts
        # Random, so that a new instance does not get connections that were meant for an earlier one
        name = f"127.{random.randint(64, 127)}.{random.randint(0, 255)}.{random.randint(1, 254)}"  # noqa: S311
        reservation = socket.socket()
        try:
            reservation.bind((name, _RESERVATION_PORT))
        except OSError:
            reservation.close()
            continue
        port = PORT if _bindable(name, PORT) else _free_port(name)
        hosts.append(LoopbackAddress(name, port, reservation))
    if len(hosts) == count:
        return hosts
    for host in hosts:
        host.release()
    raise NoAddressError(
        f"no loopback address is free: port {_RESERVATION_PORT} is taken on every address that was tried"
    )


def _bindable(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError:
            return False
    return True


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def share_of_cores(instances: int) -> dict[str, str]:
    """Return OpenMP's environment variables for each of several instances that run at the same time.

    On SageMaker each instance uses every core of a separate machine. Here all instances share one machine:
    more threads than cores would wait for each other, and OpenMP waits by spinning.
    """
    threads = str(max(1, (os.cpu_count() or 1) // instances))
    return {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}


def clean(platform: Platform, kind: str) -> None:
    """Remove files of the instances of earlier servers, at the start of a server."""
    for folder in (platform.home / "instances" / kind).glob("*"):
        if not folder.name.startswith(_OWN):
            _remove(folder)


def new_folder(platform: Platform, kind: str) -> Path:
    """Return an unused path for the files of an instance of this kind."""
    return platform.home / "instances" / kind / f"{_OWN}{uuid.uuid4().hex[:8]}"


def _remove(folder: Path) -> None:
    short = folder / "tmp"
    if short.is_symlink():
        namespaces.remove(short.resolve())
    namespaces.remove(folder)


def pull(platform: Platform, account: str, region: str, uri: str, role_arn: str) -> Image:
    """Return the image at an ECR address. Raises ApiError if it is missing or the role may not pull it."""
    key = platform.credentials(account, region, role_arn, "SageMaker")["AWS_ACCESS_KEY_ID"]
    platform.authorize(account, region, key, "ecr:GetAuthorizationToken", "*")
    if address := _ECR_ADDRESS.match(uri):
        owner, where, repository = address.groups()
        for action in ("BatchCheckLayerAvailability", "GetDownloadUrlForLayer", "BatchGetImage"):
            resource = f"arn:aws:ecr:{where}:{owner}:repository/{repository}"
            platform.authorize(account, region, key, f"ecr:{action}", resource)
    return platform.image(account, region, uri)


class Instance:
    """One container on this machine.

    `opt_ml` is the local folder with the container's `/opt/ml`. Callers must always call `close`: it ends the
    processes, removes the files and releases the address.
    """

    def __init__(
        self,
        platform: Platform,
        kind: str,
        host: LoopbackAddress,
        name: str,
        peers: Mapping[str, str] | None = None,
        folders: Sequence[str] = OPT_ML,
    ):
        """Raises OSError if the settings require namespaces and this machine does not support them.

        :param name: host name of the container
        :param peers: addresses of all hosts of the container's job, by host name
        :param folders: folders below `/opt/ml` to create
        """
        self._way = isolation.way(platform)
        self._platform, self.host = platform, host
        self._peers = {name: host.name} | dict(peers or {})
        self._own_name = name
        self._folder = new_folder(platform, kind)
        self.opt_ml = self._folder / "ml"
        for part in folders:
            (self.opt_ml / part).mkdir(parents=True)
        if not self._way.isolated:
            # A socket's path has at most 107 bytes, and programs put sockets into their temporary folder
            short = "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108 - mkdtemp creates a private folder
            self._temporary = Path(tempfile.mkdtemp(prefix="gp-", dir=short))
            (self._folder / "tmp").symlink_to(self._temporary)
        self.ended_at: float | None = None
        self._process: subprocess.Popen[str] | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Host name that the container and its peers use for this host."""
        return self._own_name if self._way.isolated else self.host.name

    def path(self, inside: str) -> Path:
        """Return the local path for a container's path. Raises ValueError unless that is below `/opt/ml`."""
        parts = Path(os.path.normpath(inside)).parts
        if parts[:3] != ("/", "opt", "ml"):
            raise ValueError(f"{inside} is not below /opt/ml")
        return self.opt_ml.joinpath(*parts[3:])

    def inside(self, path: Path) -> str:
        """Return the path in the container for a local path below `opt_ml`."""
        return str(Path("/opt/ml", path.relative_to(self.opt_ml)) if self._way.isolated else path)

    def _here(self, text: str) -> str:
        """Replace the paths below `/opt/ml` in a variable or an argument by their local paths."""
        return _BELOW_OPT_ML.sub(lambda match: f"{match[1]}{self.opt_ml}", text)

    def start(
        self,
        image: Image,
        args: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
        entrypoint: Sequence[str] | None = None,
        read_only: Sequence[str] = (),
        network: Instance | Literal["machine", "own"] = "machine",
    ) -> None:
        """Run the image like `docker run [--entrypoint ENTRYPOINT] IMAGE ARGS...`.

        Raises OSError if the command cannot be started.

        :param environment: added to the image's own variables
        :param on_line: called with each line of standard output and standard error, from a separate thread
        :param read_only: folders below `/opt/ml` that the container cannot change, if it is isolated
        :param network: `machine`: this machine's network; `own`: a private network; another instance: the
            private network of that instance. Without namespaces it is always this machine's network
        """
        files = image.folder / "root" / "opt" / "ml"
        if files.is_dir():  # the image's own files; files that are already in `opt_ml` take precedence
            shutil.copytree(
                files, self.opt_ml, symlinks=True, dirs_exist_ok=True, copy_function=_unless_there
            )
        with self._lock:
            if self._way.isolated:
                command = image.inside([*args], [*entrypoint] if entrypoint else None)
                self._process = self._start_isolated(image, *command, environment, read_only, network)
            else:
                on_line(f"{PLAIN}{self._way}")
                here = [self._here(each) for each in entrypoint or ()]
                command = image.launch([self._here(each) for each in args], here or None)
                self._process = self._start_plain(*command, environment)
        reader = threading.Thread(target=_read, args=(self._process.stdout, on_line), daemon=True)
        reader.start()
        threading.Thread(target=self._watch, args=(self._process, reader), daemon=True).start()

    def _start_isolated(
        self,
        image: Image,
        command: list[str],
        own: dict[str, str],
        directory: str,
        environment: Mapping[str, str],
        read_only: Sequence[str],
        network: Instance | Literal["machine", "own"],
    ) -> subprocess.Popen[str]:
        scratch = self._folder / "layers"
        scratch.mkdir(exist_ok=True)
        prefix = image.document["groundplan"]["prefix"]
        space = namespaces.layout(
            image.folder / "root",
            image.folder / "env",
            prefix,
            self.opt_ml,
            scratch,
            self._own_name,
            self._peers,
        )
        space["binds"] += [(str(self.path(each)), each, False) for each in read_only]
        space |= {
            "network": network._process.pid
            if isinstance(network, Instance) and network._process
            else network,
            "command": command,
            "directory": directory,
            "environment": {
                "PATH": _SEARCH_PATH,
                "LANG": "C.UTF-8",
                "HOME": "/root",
                "HOSTNAME": self._own_name,
            }
            | own
            | dict(environment)
            | self._place("/tmp", "/opt/ml"),  # noqa: S108 - the container's own
        }
        started: list[int] = []

        def adopt(process: int) -> None:
            started.append(process)
            self._platform.adopt(process)

        try:
            return namespaces.start(space, adopt)
        except OSError as error:
            for process in started:
                self._platform.release(process)
            raise OSError(f"image {image.id[:12]} has {error}") from error

    def _start_plain(
        self, command: list[str], own: dict[str, str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        """Start the command as a plain process, with local paths in its environment variables."""
        process = subprocess.Popen(
            command,
            cwd=folder,
            # The container does not inherit the server's environment
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(self._temporary)}
            | own
            | {name: self._here(value) for name, value in environment.items()}
            | self._place(str(self._temporary), str(self.opt_ml)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
        self._platform.adopt(process.pid)
        return process

    def _place(self, temporary: str, opt_ml: str) -> dict[str, str]:
        return {
            "TMPDIR": temporary,
            "SAGEMAKER_BASE_DIR": opt_ml,
            "BIND_HOST": self.host.name,
            "SAGEMAKER_BIND_TO_PORT": str(self.host.port),
        }

    def _watch(self, process: subprocess.Popen[str], reader: threading.Thread) -> None:
        # When a container's first process ends, its other processes are killed. The first process is reaped
        # after that, so that its process group ID is not reused before the signal is sent.
        if hasattr(os, "waitid"):  # Python on macOS has it from 3.13 on
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        else:
            process.wait()
        self.ended_at = time.time()
        with self._lock:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
        reader.join(timeout=5)  # a plain process that left the group may keep the pipe open indefinitely
        self._platform.release(process.pid)
        self._ended.set()

    @property
    def running(self) -> bool:
        return self._process is not None and not self._ended.is_set()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the process and its last line of output. Return its exit code, or None after the timeout.

        For a process that was ended by a signal, the code is 128 plus the signal's number, as for containers.

        :param timeout: seconds; None: no timeout
        """
        if self._process is None or not self._ended.wait(timeout):
            return None
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """Send SIGTERM to the container's first process; without namespaces, to its whole process group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill all processes of the container."""
        self._signal(namespaces.KILL if self._way.isolated else signal.SIGKILL)

    def stop(self, grace: float) -> None:
        """Send SIGTERM, then SIGKILL after `grace` seconds, and wait until the container has ended."""
        if self.running:
            self.terminate()
            if not self._ended.wait(grace):
                self.kill()
                self._ended.wait()

    def close(self) -> None:
        """Kill the container's processes, remove its files and release its address."""
        self.stop(0)
        _remove(self._folder)
        self.host.release()

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if self._process is not None and self._process.returncode is None:
                _signal_group(self._process.pid, number)


def _signal_group(group: int, number: signal.Signals) -> None:
    # PermissionError: on macOS, if only the unreaped leader is left
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _unless_there(source: str, target: str) -> None:
    if not Path(target).exists():
        shutil.copy2(source, target)


def _read(stream: IO[str], on_line: Callable[[str], None]) -> None:
    with stream:
        while line := stream.readline(LONGEST_LINE):
            on_line(line.rstrip("\r\n"))
