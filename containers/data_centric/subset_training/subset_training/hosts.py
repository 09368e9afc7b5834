"""Data-parallel training on the hosts of a job. Each host computes gradients of its share of every batch.

`torch.distributed` exchanges tensors, with gloo between CPUs and NCCL between GPUs. When `toolkit.watch`
detects that a host has failed or is lost, this process ends with that host's name in the failure reason.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from toolkit import sagemaker
from toolkit.failure import FatalError, Stopped, scrub
from toolkit.sagemaker import Cluster
from toolkit.watch import Watch

from .models import Classifier, Norm
from .normalization import HostsBatchNorm

log = logging.getLogger(__name__)

PORT = 9097
"""Port of the `TCPStore` on the first host, which the hosts use for rendezvous."""
POLL = 0.1
GRACE = 5.0
"""Time to find the cause of a failed collective operation, in seconds. `toolkit.watch` reports a lost host in
less time. If no host was lost, each responsive host writes a key to the store, and the failure reason names
the hosts that did not write."""
CUDA = "cuda"

Both = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps a batch of images to their logits and features, like `Classifier.both`."""


class Hosts:
    """Communication between the hosts of a job. This class is for a single host and exchanges nothing.

    :param stop: raises `Stopped` if SIGTERM was received. Default: does nothing
    """

    rank, size = 0, 1
    norm: Norm = nn.BatchNorm2d
    """Class of the batch normalization layers, whose statistics cover the batch of all hosts."""

    def __init__(self, stop: Callable[[], None] = lambda: None):
        self._stop = stop

    @property
    def first(self) -> bool:
        """Whether this host has rank 0. Only the host of rank 0 writes the job's files."""
        return self.rank == 0

    def check(self) -> None:
        """Raise `Stopped` on every host if any host received SIGTERM."""
        self._stop()

    def part(self, values: Tensor) -> Tensor:
        """Split the rows into contiguous parts, one for each rank. Return this host's part."""
        return values

    def gather(self, values: Tensor) -> Tensor:
        """Concatenate the rows of all hosts, in the order of ranks."""
        return values

    def broadcast(self, values: Tensor) -> Tensor:
        """Return the vector of rank 0.

        :param values: vector on the CPU, with the same dtype on all hosts
        """
        return values

    def training(self, model: Classifier) -> Both:
        """Return the model's forward pass. Its backward pass averages the gradients over the hosts."""
        return model.both


class Joined(Hosts):
    """Communication between several hosts. All hosts must call the same methods in the same order.

    :param group: process group for tensors on GPUs; None without GPUs
    """

    def __init__(self, cluster: Cluster, stop: Callable[[], None], group: dist.ProcessGroup | None):
        super().__init__(stop)
        self.rank, self.size, self._group = cluster.rank, cluster.size, group
        self.norm = partial(HostsBatchNorm, group=group)

    def check(self) -> None:
        wanted = torch.zeros(1)
        try:
            self._stop()
        except Stopped:
            wanted += 1
        dist.all_reduce(wanted)
        if wanted.item():
            raise Stopped

    def part(self, values: Tensor) -> Tensor:
        return values.tensor_split(self.size)[self.rank]

    def gather(self, values: Tensor) -> Tensor:
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = len(values)
        dist.all_reduce(sizes)
        if not sizes.any():
            return values
        padded = values.new_zeros((int(sizes.max()), *values.shape[1:]))
        padded[: len(values)] = values
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded, group=self._group if values.is_cuda else None)
        return torch.cat([each[:count] for each, count in zip(found, sizes.tolist(), strict=True)])

    def broadcast(self, values: Tensor) -> Tensor:
        count = torch.tensor([len(values)])
        dist.broadcast(count, 0)
        found = values.contiguous() if self.first else torch.empty(int(count), dtype=values.dtype)
        if len(found):
            dist.broadcast(found, 0)
        return found

    def training(self, model: Classifier) -> Both:
        with warnings.catch_warnings():  # newer versions of PyTorch warn that they renamed an option
            warnings.simplefilter("ignore", FutureWarning)
            # no broadcast of buffers: `HostsBatchNorm` keeps them equal on all hosts
            shared = DistributedDataParallel(_Both(model), broadcast_buffers=False, process_group=self._group)
        return cast(Both, shared)


class _Both(nn.Module):
    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.both(images)


@contextmanager
def joined(cluster: Cluster, timeout: int, device: torch.device, stop: Callable[[], None]) -> Iterator[Hosts]:
    """Connect to the other hosts. On exit, wait for them; after an exception, report it to them.

    :param timeout: maximum time, in seconds, that hosts wait for each other at the start and in each
        collective operation
    :raises FatalError: names the hosts that did not join or do not answer. If another host fails or is lost,
        nothing is raised: the process exits, and its failure reason is the other host's failure or loss
    """
    if cluster.size == 1:
        yield Hosts(stop)
        return
    end = _End(cluster)
    try:
        store = _meet(cluster, end.watch, timeout, stop)
        try:
            yield Joined(cluster, stop, _connected(cluster, store, timeout, device))
            dist.barrier()
        except RuntimeError as error:
            if not _is_of_hosts(error):
                raise
            log.warning("%s", scrub(error))
            raise FatalError(_unanswered(cluster, store, timeout, error)) from error
    except Stopped:
        end.shut_down()
        raise
    except FatalError as failure:
        end.fail(str(failure))
        raise
    except Exception as error:
        log.exception("training failed")
        reason = f"host {cluster.host}: {type(error).__name__}: {error}"
        end.fail(reason)
        raise FatalError(reason) from error
    end.shut_down()


class _End:
    """Decides how this process ends: with its own result or failure, or because another host was lost,
    whichever is first."""

    def __init__(self, cluster: Cluster):
        self.watch = Watch(cluster, self._on_loss)
        self._decided = threading.Lock()

    def shut_down(self) -> None:
        self._decided.acquire()
        self.watch.shut_down()

    def fail(self, reason: str) -> None:
        self._decided.acquire()
        self.watch.fail(scrub(reason))

    def _on_loss(self) -> None:
        """Exit the process: its main thread may be blocked in a collective, which cannot be interrupted."""
        if not self._decided.acquire(blocking=False):
            return
        reason = self.watch.reason or f"host {self.watch.lost} was lost; see its log"
        log.error("%s", scrub(reason))
        sagemaker.write_failure(reason)
        sys.stdout.flush()
        os._exit(1)


def _meet(cluster: Cluster, watch: Watch, timeout: int, stop: Callable[[], None]) -> dist.TCPStore:
    """Wait until all hosts have joined. Return the store, which is on the first host.

    Raises `FatalError` if a host does not join in time, or the port cannot be used.
    """
    first, limit = cluster.hosts[0], timedelta(seconds=timeout)
    found: list[str] = []

    def wait(missing: Callable[[], set[str]], seconds: float = timeout) -> None:
        until = time.monotonic() + seconds
        while names := missing():
            stop()
            if time.monotonic() > until:
                raise FatalError(
                    f"{', '.join(sorted(names))} did not join within {timeout} s (hyperparameter timeout)"
                )
            time.sleep(POLL)

    def unknown() -> set[str]:
        with suppress(OSError):  # the name may not be resolvable yet
            found.append(socket.gethostbyname(first))
        return set() if found else {first}

    wait(unknown)
    if cluster.first:
        try:
            # The store's default listener would accept connections on all addresses of the machine
            listener = socket.create_server((found[0], PORT))
        except OSError as error:
            raise FatalError(f"host {first} cannot listen on port {PORT}: {error.strerror}") from None
        store = _store(found[0], limit, listener)
        watch.start()
        wait(lambda: set(cluster.hosts[1:]) - watch.joined)
        store.set("joined", "")
        return store
    watch.start()
    wait(lambda: {first} - watch.joined)
    store = _store(found[0], limit)
    # This host waits longer than the first host, so that the first host fails first and names the missing
    # host
    wait(lambda: set() if store.check(["joined"]) else {first}, timeout + GRACE)
    return store


def _store(address: str, limit: timedelta, listener: socket.socket | None = None) -> dist.TCPStore:
    return dist.TCPStore(
        address,
        PORT,
        is_master=listener is not None,
        timeout=limit,
        wait_for_workers=False,
        master_listen_fd=listener.detach() if listener else None,
    )


def _connected(
    cluster: Cluster, store: dist.TCPStore, timeout: int, device: torch.device
) -> dist.ProcessGroup | None:
    """Initialize the process groups. Return the group for tensors on GPUs; None without GPUs."""
    if cluster.interface:
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, cluster.interface)
    limit = timedelta(seconds=timeout)
    dist.init_process_group("gloo", store=store, rank=cluster.rank, world_size=cluster.size, timeout=limit)
    # After an NCCL timeout, the process exits without a failure reason. So NCCL's timeout is twice as long as
    # gloo's: the gloo collective before each batch times out earlier, with a reason.
    return dist.new_group(backend="nccl", timeout=2 * limit) if device.type == CUDA else None


def _is_of_hosts(error: RuntimeError) -> bool:
    """Return whether the error comes from a collective or the store. gloo raises plain `RuntimeError`."""
    own = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    return isinstance(error, own) or "gloo" in str(error)


def _unanswered(cluster: Cluster, store: dist.TCPStore, timeout: int, error: RuntimeError) -> str:
    """Return the failure reason for a collective operation that failed although no host was lost."""
    waiting: list[str] = []

    def ask() -> None:
        with suppress(RuntimeError):
            store.set(f"waits/{cluster.host}", "")
            time.sleep(GRACE)
            waiting.extend(host for host in cluster.hosts if store.check([f"waits/{host}"]))

    # in a thread, because the store runs in the first host's process, and calls hang if that process hangs
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * GRACE)
    silent = [host for host in cluster.hosts if host not in waiting] if waiting else [cluster.hosts[0]]
    if silent:
        return f"{', '.join(silent)} did not answer within {timeout} s (hyperparameter timeout)"
    return f"the connections between the hosts broke: {error}"
