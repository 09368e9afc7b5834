"""Training and processing jobs: each instance (`instances.py`) runs one container until it exits."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from local.images.store import Image
from local.sagemaker import beneath
from local.sagemaker.api import ApiError, Context, invalid
from local.sagemaker.instances import Instance, NoAddressError, pull, reserve, share_of_cores
from local.sagemaker.jobs.job import LONGEST_REASON, TICK, Job, JobError
from local.sagemaker.jobs.kinds import JobKind

LONGEST_MESSAGE = 16_384
"""Maximum number of bytes that are read of a container's failure or exit message."""


@dataclass(frozen=True)
class Group:
    """An instance group: instances of one type. A job that declares none has a single group."""

    name: str
    instance_type: str
    count: int


def by_type(groups: Sequence[Group]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for group in groups:
        counts[group.instance_type] += group.count
    return counts


@dataclass
class Host:
    """One instance of a job."""

    instance: Instance
    group: Group
    stream: str
    """Name of the container's log stream. As on AWS, it ends with the host's number and a timestamp"""


def pull_image(context: Context, kind: JobKind, uri: str, role: str) -> Image:
    """Return the image. Raises `ValidationException` if it does not exist or the role may not pull it."""
    try:
        return pull(context.platform, context.account, context.region, uri, role)
    except ApiError as error:
        raise invalid(
            f"Cannot pull the {kind.folder} image {uri}. Please check that it is in the registry and that "
            f"the role {role} can be assumed by SageMaker and has permission to pull it: {error.message}"
        ) from None


class ContainerJob(Job):
    """A running training or processing job."""

    message: ClassVar[str]
    """Path below `/opt/ml` of the file to which a container writes its failure reason."""
    folders: ClassVar[tuple[str, ...]]
    """Folders below `/opt/ml` that exist when a container starts."""
    config: ClassVar[str]
    """The folder below `/opt/ml` with the job's configuration."""

    def __init__(self, context: Context, name: str, image: Image, groups: list[Group]):
        super().__init__(context, name, by_type(groups))
        self.image, self.groups = image, groups

    def launch(self, stack: contextlib.ExitStack) -> list[Host]:
        """Create the instances. Closing the stack stops them and deletes their files. Raises JobError."""
        groups = [group for group in self.groups for _ in range(group.count)]
        try:
            addresses = reserve(len(groups))
        except NoAddressError as error:
            raise JobError(f"CapacityError: {error}") from None
        for address in addresses:
            stack.callback(address.release)
        # So that algo-1 has the first address, whether hosts are sorted by name or address
        addresses.sort(key=lambda address: address.name)
        moment, hosts = int(time.time()), []
        peers = {f"algo-{number}": address.name for number, address in enumerate(addresses, start=1)}
        for number, (address, group) in enumerate(zip(addresses, groups, strict=True), start=1):
            try:
                instance = Instance(
                    self.platform, self.kind.folder, address, f"algo-{number}", peers, self.folders
                )
            except OSError as error:
                raise JobError(
                    f"InternalServerError: the local cloud could not create an instance: {error}"
                ) from None
            stack.callback(instance.close)
            hosts.append(Host(instance, group, f"{self.name}/algo-{number}-{moment}"))
        return hosts

    def configure(self, host: Host, files: Mapping[str, Any]) -> None:
        """Write a host's configuration files. Keys are file names without `.json`."""
        for name, document in files.items():
            (host.instance.opt_ml / self.config / f"{name}.json").write_text(json.dumps(document))

    def run_containers(
        self,
        hosts: list[Host],
        command: tuple[Sequence[str] | None, Sequence[str]],
        environment: Mapping[str, str],
        isolated: bool,
        on_line: Callable[[Host, str], None],
    ) -> None:
        """Start the container of every host. Raises JobError.

        :param command: entry point, or None for the image's own, and arguments
        :param environment: variables in addition to the Region and, unless `isolated`, the role's credentials
        :param isolated: whether the containers can reach only the other hosts of the job
        :param on_line: called with each line of the output
        """
        entrypoint, args = command
        environment = share_of_cores(len(hosts)) | dict(environment) | {"AWS_REGION": self.context.region}
        if not isolated:
            environment |= self.platform.credentials(
                self.context.account, self.context.region, self.role, "SageMaker"
            )
        first = hosts[0].instance
        for host in hosts:
            network = "machine"
            if isolated:
                network = "own" if host.instance is first else first

            def line(text: str, host: Host = host) -> None:
                on_line(host, text)

            try:
                host.instance.start(self.image, args, environment, line, entrypoint, network=network)
            except OSError as error:
                raise JobError(
                    "ClientError: CannotStartContainerError. Please make sure the container can be run with "
                    f"'{' '.join(['docker run <image>', *args])}': {error}"
                ) from None

    def wait(
        self, hosts: list[Host], limits: Mapping[str, float], look: Callable[[], str] = lambda: ""
    ) -> tuple[str, str]:
        """Wait for all containers. Return the failure reason, or "", and the ending: Completed, Failed,
        Stopped, a key of `limits`, or the result of `look`.

        :param limits: monotonic times at which the job is stopped
        :param look: called repeatedly. The job is stopped if it returns a text, or raises JobError or
            TransferError
        """
        while True:
            codes = {host.stream: host.instance.wait(0) for host in hosts}
            if any(codes.values()):  # a failed container ends the job
                return self._reason(hosts), "Failed"
            if all(code == 0 for code in codes.values()):
                return "", "Completed"
            if self.abandoned.is_set():
                return self.kind.abandoned, "Failed"
            clock = time.monotonic()
            over = [ending for ending in limits if clock > limits[ending]]
            end = min(over, key=lambda ending: limits[ending]) if over else ""
            end = end or ("Stopped" if self.stopping.is_set() else look())
            if end:
                self._terminate(hosts)
                return "", end
            self.stopping.wait(TICK)

    def _terminate(self, hosts: list[Host]) -> None:
        """Send SIGTERM to all containers, and SIGKILL to those that still run after the grace period."""
        for host in hosts:
            host.instance.terminate()
        until = time.monotonic() + self.setting("stop_grace")
        while time.monotonic() < until and not self.abandoned.is_set():
            if not any(host.instance.running for host in hosts):
                return
            time.sleep(TICK)
        for host in hosts:
            host.instance.stop(0)

    def _reason(self, hosts: list[Host]) -> str:
        """Return the FailureReason of the first container that failed: its message, truncated, and exit
        code."""
        failed = [host.instance for host in hosts if host.instance.wait(0)]
        first = min(failed, key=lambda instance: instance.ended_at or 0)
        said = said_by(first, self.message).decode(errors="replace").strip()
        ending = f", exit code: {first.wait(0)}"
        return f"AlgorithmError: {said}"[: LONGEST_REASON - len(ending)] + ending


def said_by(instance: Instance, file: str) -> bytes:
    """Return at most LONGEST_MESSAGE bytes of a container's file; nothing if it does not exist.

    :param file: path relative to `/opt/ml`
    """
    with (
        contextlib.suppress(OSError),
        beneath.held(instance.opt_ml, instance.opt_ml / file) as path,
    ):
        return _beginning(path)
    return b""


def _beginning(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(LONGEST_MESSAGE)
