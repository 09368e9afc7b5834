"""Communication between the hosts of a job through XGBoost's collective."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from xgboost import collective
from xgboost.core import XGBoostError
from xgboost.tracker import RabitTracker

from toolkit.failure import FatalError
from toolkit.sagemaker import Cluster
from toolkit.watch import Watch

from .failure import reason_of

log = logging.getLogger(__name__)

PORT = 9099
END_SECONDS = 10
"""Maximum number of seconds that the first host waits for the other hosts to end."""

T = TypeVar("T")


def start_tracker(cluster: Cluster, timeout: int) -> RabitTracker:
    """Start the tracker to which all hosts connect, on the first host's address and a fixed port.

    Raises `FatalError` if the port is in use, or the first host's name cannot be resolved within `timeout`
    seconds.
    """
    until = time.monotonic() + timeout
    while True:
        try:
            tracker = RabitTracker(
                n_workers=cluster.size,
                host_ip=socket.gethostbyname(cluster.host),
                port=PORT,
                sortby="task",
                timeout=timeout,
            )
            tracker.start()
            return tracker
        except OSError:  # the host's name may become resolvable later
            if time.monotonic() > until:
                raise FatalError(f"could not resolve the host name {cluster.host}") from None
            time.sleep(0.5)
        except XGBoostError:
            raise FatalError(
                f"host {cluster.host} cannot listen on port {PORT}: the port is in use"
            ) from None


def end_tracker(tracker: RabitTracker, watch: Watch) -> None:
    """Wait until the other hosts have ended or disconnected from the tracker, then stop it.

    A host that disconnects after the tracker has stopped would fail although it has finished.
    """
    until = time.monotonic() + END_SECONDS
    while not watch.alone and time.monotonic() < until:
        time.sleep(0.05)
    with contextlib.suppress(XGBoostError, ValueError):  # raised if a host has failed: it does not disconnect
        tracker.wait_for(1)


@contextlib.contextmanager
def gathered(cluster: Cluster, timeout: int) -> Iterator[None]:
    """Connect all hosts, ranked by their names. Raises `FatalError` if not all join in `timeout` seconds.

    Hosts start in any order, so a host retries until the tracker runs. If a host is lost afterwards, XGBoost
    usually raises an error on the other hosts at once; if it does not, `toolkit.watch` detects the loss. If a
    host does not answer, the other hosts fail after `timeout` seconds.
    """
    if cluster.size == 1:
        yield
        return
    # XGBoost warns of each failed attempt before the tracker runs. The error of the last attempt is enough.
    warnings.filterwarnings("ignore", message=".*Failed to connect.*", category=UserWarning)
    until = time.monotonic() + timeout
    while True:
        try:
            collective.init(
                dmlc_communicator="rabit",
                dmlc_tracker_uri=socket.gethostbyname(cluster.hosts[0]),
                dmlc_tracker_port=PORT,
                dmlc_task_id=f"{cluster.rank:06d}",
                dmlc_retry=1,
                dmlc_timeout=timeout,
            )
            break
        except (XGBoostError, OSError):
            if time.monotonic() > until:
                raise FatalError(
                    f"host {cluster.host} could not connect to host {cluster.hosts[0]} in {timeout} seconds"
                    " (hyperparameter timeout)"
                ) from None
            time.sleep(0.5)
    try:
        yield
    except FatalError:  # an error from `together` is raised on all hosts, and all of them disconnect
        collective.finalize()
        raise
    collective.finalize()


def together(cluster: Cluster, work: Callable[[], T]) -> list[T]:
    """Call `work` on every host; return the results of all hosts, by rank, on every host.

    An error on one host raises the same `FatalError` on all hosts. So all hosts end with the same reason, and
    no host waits for a host that has ended.
    """
    try:
        mine: tuple[T | None, str | None] = (work(), None)
    except FatalError as failure:
        mine = (None, str(failure))
    except Exception as error:
        log.exception("host %s failed", cluster.host)
        mine = (None, f"host {cluster.host}: {reason_of(error)}")
    all_of_them = [
        collective.broadcast(mine if rank == cluster.rank else None, rank) for rank in range(cluster.size)
    ]
    for _, problem in all_of_them:
        if problem:
            raise FatalError(problem)
    return [cast(T, result) for result, _ in all_of_them]


def agreed(cluster: Cluster, work: Callable[[], T]) -> T:
    """Call `work` on every host; return this host's result. Raises `FatalError` like `together`."""
    kept: list[T] = []
    together(cluster, lambda: kept.append(work()))
    return kept[0]
