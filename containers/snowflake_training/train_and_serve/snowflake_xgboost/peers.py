"""The hosts of one job, talking through XGBoost's own collective."""

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

from toolkit.failure import Failure
from toolkit.sagemaker import Cluster
from toolkit.watch import Watch

from .failure import reason_of

log = logging.getLogger(__name__)

PORT = 9099
END_SECONDS = 10
"""Seconds that the first host waits for the others to end."""

T = TypeVar("T")


def start_tracker(cluster: Cluster, timeout: int) -> RabitTracker:
    """Where all hosts meet: on the first one, at its own address alone, at a fixed port.

    Raises `Failure` when that port is taken, or the host's name is not known in `timeout` seconds.
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
        except OSError:  # a name may come up after its host
            if time.monotonic() > until:
                raise Failure(f"host {cluster.host} has no address") from None
            time.sleep(0.5)
        except XGBoostError:
            raise Failure(f"host {cluster.host} cannot listen on port {PORT}: something else does") from None


def end_tracker(tracker: RabitTracker, watch: Watch) -> None:
    """Wait until the other hosts have disconnected from the tracker or ended. A host that disconnects after
    the tracker has stopped would fail although its work is done."""
    until = time.monotonic() + END_SECONDS
    while not watch.alone and time.monotonic() < until:
        time.sleep(0.05)
    with contextlib.suppress(XGBoostError, ValueError):  # a failed host does not disconnect
        tracker.wait_for(1)


@contextlib.contextmanager
def gathered(cluster: Cluster, timeout: int) -> Iterator[None]:
    """All hosts, ranked by their names. Raises `Failure` when they have not met in `timeout` seconds.

    Hosts start in any order, so one that comes before the tracker tries again. From then on a host
    that goes away fails the others, most often at once (`toolkit.watch` sees to the rest), and one that goes
    silent fails them after `timeout` seconds.
    """
    if cluster.size == 1:
        yield
        return
    # XGBoost warns of every try that comes before the tracker is there; the last one's error is enough.
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
                raise Failure(
                    f"host {cluster.host} could not meet host {cluster.hosts[0]} in {timeout} seconds"
                ) from None
            time.sleep(0.5)
    try:
        yield
    except Failure:  # of `together`: every host has it, so every host says goodbye
        collective.finalize()
        raise
    collective.finalize()


def together(cluster: Cluster, work: Callable[[], T]) -> list[T]:
    """Do a piece of work on every host; the results of all, by rank, on all of them.

    What fails on one host raises the same `Failure` on every host, so that all end with the reason
    and none waits for one that is gone.
    """
    try:
        mine: tuple[T | None, str | None] = (work(), None)
    except Failure as failure:
        mine = (None, str(failure))
    except Exception as error:
        log.exception("host %s failed", cluster.host)
        mine = (None, f"host {cluster.host}: {reason_of(error)}")
    all_of_them = [
        collective.broadcast(mine if rank == cluster.rank else None, rank) for rank in range(cluster.size)
    ]
    for _, problem in all_of_them:
        if problem:
            raise Failure(problem)
    return [cast(T, result) for result, _ in all_of_them]


def agreed(cluster: Cluster, work: Callable[[], T]) -> T:
    """Like `together`, but each host keeps its result to itself."""
    kept: list[T] = []
    together(cluster, lambda: kept.append(work()))
    return kept[0]
