"""Local instances: an image running in namespaces of its own, with `/opt/ml` and an address.

The hosts of jobs and the containers of endpoints come from here. An instance sees what a container on
SageMaker sees: files below `/opt/ml`, environment variables, a host name and a port; its output comes back
line by line. Where the machine allows no namespaces it is a plain process group: it finds `/opt/ml` by
`SAGEMAKER_BASE_DIR`, its host name is its address, and it may read and write what the cloud's owner may.
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
"""Characters; a longer line reaches the callback in pieces, as Docker cuts it."""

PLAIN = "Groundplan: this container is not isolated. Containers run as "
"""How the log of a container without namespaces of its own begins; the way it runs and the reason follow."""

_OWN = f"{uuid.uuid4().hex[:6]}-"
"""What the names of this process's folders begin with."""

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BELOW_OPT_ML = re.compile(r"""(^|[\s:='"])/opt/ml(?=[\s:/'"]|$)""")
_ECR_ADDRESS = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[^/]+/([^:@]+)")
_RESERVATION_PORT = 28_610  # below the ranges that systems take outgoing connections' ports from
OPT_ML = (
    "input/config",
    "input/data",
    "model",
    "code",
    "checkpoints",
    "output/data",
)


class NoAddressError(Exception):
    """This machine has no loopback address left to give, or only one where several are needed."""


class LoopbackAddress:
    """A loopback address that is this instance's alone on the whole machine, until `release`.

    The reservation is a bound socket, so it ends with the process that holds it however that ends, and
    other clouds on the machine respect it. `port` is 8080 unless another program listens there on every
    address.
    """

    def __init__(self, name: str, port: int, reservation: socket.socket | None):
        self.name, self.port, self._reservation = name, port, reservation

    def release(self) -> None:
        if self._reservation is not None:
            self._reservation.close()


def reserve(count: int = 1) -> list[LoopbackAddress]:
    """Take `count` hosts. Raises `NoAddressError`, holding none, where the machine cannot give them."""
    if not _bindable("127.0.0.2", 0):  # macOS configures 127.0.0.1 alone
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
        # At random, so that a new instance does not meet connections left over from the last one.
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
    raise NoAddressError(f"no loopback address is free: port {_RESERVATION_PORT} is taken on all of them")


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
    """OpenMP's environment for each of several instances that work at once.

    On SageMaker each has a machine to itself and takes every core. Here they share one: threads beyond its
    cores would wait for each other, and OpenMP waits by spinning.
    """
    threads = str(max(1, (os.cpu_count() or 1) // instances))
    return {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}


def clean(platform: Platform, kind: str) -> None:
    """Remove what the instances of earlier servers left on disk; for the start of a server."""
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
    """The image behind an ECR address, as far as this role may pull it. Raises ApiError."""
    key = platform.credentials(account, region, role_arn, "SageMaker")["AWS_ACCESS_KEY_ID"]
    platform.authorize(account, region, key, "ecr:GetAuthorizationToken", "*")
    if address := _ECR_ADDRESS.match(uri):
        owner, where, repository = address.groups()
        for action in ("BatchCheckLayerAvailability", "GetDownloadUrlForLayer", "BatchGetImage"):
            resource = f"arn:aws:ecr:{where}:{owner}:repository/{repository}"
            platform.authorize(account, region, key, f"ecr:{action}", resource)
    return platform.image(account, region, uri)


class Instance:
    """One container's place on this machine: made, filled with files, started, waited for, closed.

    `opt_ml` is the folder that the container knows as `/opt/ml`. `close` is owed in every case: it ends
    the processes, removes the files and gives the address back.
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
        """`name` is the container's host name, `peers` the addresses by name of all hosts of its job,
        `folders` what there is below `/opt/ml` from the start.

        Raises OSError where the settings ask for namespaces and this machine has none.
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
            # Sockets have paths of at most 107 bytes and programs put them into their temporary folder.
            short = "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108 - mkdtemp makes it ours alone
            self._temporary = Path(tempfile.mkdtemp(prefix="gp-", dir=short))
            (self._folder / "tmp").symlink_to(self._temporary)
        self.ended_at: float | None = None
        self._process: subprocess.Popen[str] | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The name by which the container and its peers know this host."""
        return self._own_name if self._way.isolated else self.host.name

    def path(self, inside: str) -> Path:
        """Where a path inside the container lies here. Raises ValueError unless it is below `/opt/ml`."""
        parts = Path(os.path.normpath(inside)).parts
        if parts[:3] != ("/", "opt", "ml"):
            raise ValueError(f"{inside} is not below /opt/ml")
        return self.opt_ml.joinpath(*parts[3:])

    def inside(self, path: Path) -> str:
        """How the container calls a path below `opt_ml`."""
        return str(Path("/opt/ml", path.relative_to(self.opt_ml)) if self._way.isolated else path)

    def _here(self, text: str) -> str:
        """A setting or an argument with the paths below `/opt/ml` in it as they are on this machine."""
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
        """Run the image as `docker run [--entrypoint ENTRYPOINT] IMAGE ARGS...` would.

        `environment` is added to the image's own. `on_line` gets each line of the output, standard error
        included, from a thread of this instance. `read_only` are folders below `/opt/ml` that the container
        cannot change, if it is isolated. `network` is this machine's, one of the container's own, or that
        of another instance with one of its own; without namespaces it is always this machine's. Raises
        OSError where the command cannot be started.
        """
        files = image.folder / "root" / "opt" / "ml"
        if files.is_dir():  # what the image itself brings, under what was put there since
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
        """Variables that are paths below `/opt/ml` are turned into where they lie here."""
        process = subprocess.Popen(
            command,
            cwd=folder,
            # Nothing of the server's own environment but what any container has.
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
        # When a container's first process ends, so do the others. The process is left unreaped until
        # they have the signal: its number cannot be another group's before.
        if hasattr(os, "waitid"):  # Python on macOS has it from 3.13 on
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        else:
            process.wait()
        self.ended_at = time.time()
        with self._lock:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
        reader.join(timeout=5)  # a plain process that left the group may hold the pipe for ever
        self._platform.release(process.pid)
        self._ended.set()

    @property
    def running(self) -> bool:
        return self._process is not None and not self._ended.is_set()

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code once the process ended and its last line was handed on, None before (seconds).

        Ended by a signal, it is 128 and the signal's number, as a container's."""
        if self._process is None or not self._ended.wait(timeout):
            return None
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """Ask the container's first process to end (SIGTERM); without namespaces, the whole process group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all of the container's processes at once."""
        self._signal(namespaces.KILL if self._way.isolated else signal.SIGKILL)

    def stop(self, grace: float) -> None:
        """End the container: SIGTERM, then SIGKILL after `grace` seconds. Returns when it has ended."""
        if self.running:
            self.terminate()
            if not self._ended.wait(grace):
                self.kill()
                self._ended.wait()

    def close(self) -> None:
        """End what still runs, at once, and leave nothing behind."""
        self.stop(0)
        _remove(self._folder)
        self.host.release()

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if self._process is not None and self._process.returncode is None:
                _signal_group(self._process.pid, number)


def _signal_group(group: int, number: signal.Signals) -> None:
    # PermissionError: macOS's answer where only the unreaped leader is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _unless_there(source: str, target: str) -> None:
    if not Path(target).exists():
        shutil.copy2(source, target)


def _read(stream: IO[str], on_line: Callable[[str], None]) -> None:
    with stream:
        while line := stream.readline(LONGEST_LINE):
            on_line(line.rstrip("\r\n"))
