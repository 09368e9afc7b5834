"""The instances of a job as one Ray cluster.

The first host starts Ray's head and runs the learner. Every other host starts a node, restarts it if it is
lost, and ends when the head has ended.

Ray's processes listen on every address of the container; this cannot be configured. Run the job with network
isolation, where its hosts can only connect to each other. The processes also require the job's token, which
is derived from the job's ARN. The token keeps out processes of other jobs, but users who may describe the
job can compute it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from toolkit.failure import FatalError
from toolkit.sagemaker import Cluster
from toolkit.stopping import Interruption

JOB = os.environ.get("TRAINING_JOB_ARN", "a job by hand")
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": hashlib.sha256(f"ray of {JOB}".encode()).hexdigest(),
    "RAY_USAGE_STATS_ENABLED": "0",
}

import ray  # noqa: E402 - Ray reads these variables when it is imported

log = logging.getLogger(__name__)

_SIOCGIFFLAGS, _IFF_UP = 0x8913, 0x1
PORT = 6379
PATIENCE = 600.0
"""Maximum seconds to wait for Ray's head to start, and then for all hosts to join."""
POLL = 1.0
OBJECT_STORE = 256 * 2**20
"""Size of a node's object store in bytes. Batches of episodes are small."""


@contextmanager
def head(cluster: Cluster, processors: int) -> Iterator[None]:
    """Run Ray's head on this host, connect to it, and wait for a node of every host.

    :param processors: number of processors of each node for env runners
    :raises FatalError: names the hosts that did not join in time
    """
    address = _address(cluster.host)
    _require_own_network(address)
    with _node(["--head", f"--port={PORT}", "--include-dashboard=false"], address, processors):
        _connect(address)
        try:
            _await_nodes(cluster)
            yield
        finally:
            ray.shutdown()


def join(cluster: Cluster, processors: int) -> None:
    """Run a node of the cluster on this host until the head has ended.

    :raises FatalError: if the head does not start, or this host's node fails repeatedly
    """
    stop, first, own = Interruption(), _address(cluster.hosts[0]), _address(cluster.host)
    _require_own_network(own)
    patience = time.monotonic() + PATIENCE
    while not _listens(first):
        stop.check()
        if time.monotonic() > patience:
            raise FatalError(f"{cluster.hosts[0]} did not start Ray's head within {PATIENCE:.0f} s")
        time.sleep(POLL)
    for attempt in range(10):
        if attempt:
            log.info("%s lost its Ray node and joins again", cluster.host)
        with _node([f"--address={first}:{PORT}"], own, processors) as process:
            while process.poll() is None:
                stop.check()
                if not _listens(first):
                    time.sleep(POLL)
                    if not _listens(first):
                        return  # the head has ended, so the job has ended
                time.sleep(POLL)
        if not _listens(first):
            return
    raise FatalError(f"could not keep the Ray node of {cluster.host} running: it ended 10 times")


def lost(cluster: Cluster) -> list[str]:
    """Return the hosts without a running Ray node."""
    alive = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    return [host for host in cluster.hosts if _address(host) not in alive]


@contextmanager
def _node(options: list[str], address: str, processors: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `ray start`, and end it and its processes afterwards."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    command += [f"--node-ip-address={address}", f"--num-cpus={processors}", "--num-gpus=0"]
    command += [f"--object-store-memory={OBJECT_STORE}", *options]
    # The output is not needed: Ray writes its logs below /tmp/ray
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # the remaining Ray processes end with the container
            process.kill()


def _connect(address: str) -> None:
    patience = time.monotonic() + PATIENCE
    while True:
        with suppress(ConnectionError, ValueError, RuntimeError):
            ray.init(
                address=f"{address}:{PORT}",
                _node_ip_address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            return
        if time.monotonic() > patience:
            raise FatalError(f"Ray's head did not start within {PATIENCE:.0f} s")
        time.sleep(POLL)


def _await_nodes(cluster: Cluster) -> None:
    patience = time.monotonic() + PATIENCE
    while missing := lost(cluster):
        if time.monotonic() > patience:
            raise FatalError(f"{', '.join(missing)} did not join the Ray cluster within {PATIENCE:.0f} s")
        time.sleep(POLL)
    log.info("Ray runs on %s", ", ".join(cluster.hosts))


def _require_own_network(address: str) -> None:
    """Raise `FatalError` if the hosts are processes that share a machine's network with other processes."""
    if address.startswith("127.") and any(map(_is_up, interfaces() - {"lo"})):
        raise FatalError(
            "Ray's processes listen on every address of this machine: run the job with network isolation"
            " (EnableNetworkIsolation), in a container with its own network namespace"
        )


def interfaces() -> set[str]:
    """Return the names of the network interfaces."""
    return {name for _, name in socket.if_nameindex()}


def _is_up(interface: str) -> bool:
    """Return whether an interface is up. A new network namespace also has tunnel interfaces that are down."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH22x", interface.encode(), 0))
        return bool(struct.unpack("16sH22x", answer)[1] & _IFF_UP)
    return False


def _address(host: str) -> str:
    with suppress(OSError):
        found = socket.gethostbyname(host)
        # not 127.0.0.1, which every host would take as its own address
        return "127.0.0.2" if found == "127.0.0.1" else found
    return "127.0.0.2"


def _listens(address: str) -> bool:
    with suppress(OSError), socket.create_connection((address, PORT), 2):
        return True
    return False
