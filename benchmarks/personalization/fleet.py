"""A simulation of SageMaker training in virtual time: rate limit, quotas, start-up, warm pools, spot,
failures.

It behaves as AWS documents for SageMaker. AWS does not document start times and the frequency of
interruptions and capacity errors. These are assumptions in `Terms`, which a run can change.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np


class Clock:
    """A clock in virtual seconds since the start, with scheduled calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self._agenda: list[tuple[float, int, Callable[..., object], tuple]] = []
        self._order = itertools.count()

    def after(self, seconds: float, act: Callable[..., object], *given: object) -> None:
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), act, given))

    def run(self, until: float = float("inf")) -> None:
        """Make all calls that are due up to `until`, in order."""
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, act, given = heapq.heappop(self._agenda)
            act(*given)


@dataclass(frozen=True)
class Terms:
    """Quotas of the account and behaviour of the service. Times are in seconds, prices in dollars.

    AWS documents the rate limit of CreateTrainingJob, the quotas of instances and the rules of warm pools. A
    warm pool serves only jobs with its number of hosts, is billed while it waits, and counts towards the
    quota. Spot jobs have no warm pool. `price` is a list price. All other values are assumptions.
    """

    quota: int = 800
    """Maximum number of on-demand instances in use, including instances in warm pools."""
    spot_quota: int = 800
    """Maximum number of spot instances in use."""
    warm_quota: int = 800
    """Maximum number of instances in warm pools. A job whose instances would exceed it leaves no warm
    pool."""
    rate: float = 1.0
    burst: int = 5
    price: float = 1.515
    """Price of an on-demand training hour on ml.g5.2xlarge in us-east-1: list price of November 2026, from
    public price tools."""
    provision_cold: float = 150
    provision_warm: float = 10
    load_cold: float = 90
    load_warm: float = 45
    startup_spread: float = 0.25
    capacity_error: float = 0.01
    capacity_error_after: float = 300
    faults: float = 0.002
    """Number of failures per hour of an on-demand instance. A failure ends its job."""
    spot_discount: float = 0.6
    interruptions: float = 0.05
    """Number of interruptions per hour of a spot instance. The job then waits about `interrupted_for` seconds
    and starts again."""
    interrupted_for: float = 300
    checkpoint_every: float = 60
    task_failure: float = 0.002


class ThrottledError(Exception):
    """A call of CreateTrainingJob exceeded the rate limit."""


class FleetQuotaError(Exception):
    """A job exceeds the quota of instances: `limit` is the quota, `used` the number in use."""

    def __init__(self, limit: int, used: int) -> None:
        super().__init__(f"{used} of {limit} instances are in use")
        self.limit, self.used = limit, used


class NameTakenError(Exception):
    """A training job with this name exists."""


@dataclass
class Task:
    """A fine-tune: `seconds` is its true duration, `kept` the seconds of it that the last checkpoint
    contains."""

    request: str
    seconds: float
    kept: float = 0.0
    done: bool = False


@dataclass
class Job:
    """A training job: the tasks of each host in order. `life` counts interruptions and the end of the job."""

    name: str
    tasks: list[list[Task]]
    spot: bool = False
    keep_alive: float = 0
    status: str = "InProgress"
    reason: str = ""
    life: int = 0
    running: int = 0
    billed_from: float | None = None
    began: list[float] = field(default_factory=list)

    @property
    def hosts(self) -> int:
        return len(self.tasks)


@dataclass
class Meter:
    """Totals of a run. `billed`, `of_it_spot` and `warm` are billed instance seconds, summed over all
    instances."""

    calls: int = 0
    throttled: int = 0
    refused: int = 0
    created: int = 0
    warm_starts: int = 0
    interrupted: int = 0
    without_capacity: int = 0
    broken: int = 0
    billed: float = 0.0
    of_it_spot: float = 0.0
    warm: float = 0.0
    training: float = 0.0
    most_instances: int = 0
    starts: list[float] = field(default_factory=list)


class Fleet:
    """A simulation of training jobs from `CreateTrainingJob` to their end.

    Calls `on_result(job, task, failed)` when a task has written its result, and `on_change(job)` when a job
    starts training, is interrupted or ends."""

    def __init__(
        self,
        clock: Clock,
        terms: Terms,
        random: np.random.Generator,
        on_result: Callable[[Job, Task, bool], object],
        on_change: Callable[[Job], object],
    ) -> None:
        self.clock, self.terms, self.meter = clock, terms, Meter()
        self.jobs: dict[str, Job] = {}
        self._random, self._on_result, self._on_change = random, on_result, on_change
        # whether spot -> number of instances of jobs and warm pools
        self._used = {False: 0, True: 0}
        # number of hosts of a warm pool -> (start, id) of each such pool
        self._pools: dict[int, list[tuple[float, int]]] = {}
        self._pool_numbers = itertools.count()
        self._tokens, self._refilled = float(terms.burst), 0.0

    def create(
        self, name: str, tasks: Sequence[Sequence[Task]], *, spot: bool = False, keep_alive: float = 0
    ) -> None:
        """Create a job. Raises `ThrottledError`, `NameTakenError` or `FleetQuotaError`, checked in AWS's
        order."""
        terms, now = self.terms, self.clock.now
        self.meter.calls += 1
        self._tokens = min(terms.burst, self._tokens + (now - self._refilled) * terms.rate)
        self._refilled = now
        if self._tokens < 1:
            self.meter.throttled += 1
            raise ThrottledError
        self._tokens -= 1
        if name in self.jobs:
            raise NameTakenError
        hosts = len(tasks)
        warm = not spot and bool(self._pools.get(hosts))
        limit = terms.spot_quota if spot else terms.quota
        if not warm and self._used[spot] + hosts > limit:
            self.meter.refused += 1
            raise FleetQuotaError(limit, self._used[spot])
        job = Job(name, [list(host) for host in tasks], spot, 0 if spot else keep_alive)
        self.jobs[name] = job
        self.meter.created += 1
        self.meter.starts.append(now)
        if warm:
            since, _ = self._pools[hosts].pop()
            self._bill_pool(hosts, since)
            self.meter.warm_starts += 1
        else:
            self._used[spot] += hosts
            self.meter.most_instances = max(self.meter.most_instances, sum(self._used.values()))
        self._start(job, warm)

    def _spread(self, seconds: float) -> float:
        return seconds * float(self._random.lognormal(0, self.terms.startup_spread))

    def _start(self, job: Job, warm: bool) -> None:
        """Provision the instances, which is not billed. Billing starts when they begin to pull the image."""
        terms = self.terms
        # a job needs all its instances, so it fails if any of them is not available
        if not warm and self._random.random() > (1 - terms.capacity_error) ** job.hosts:
            self.meter.without_capacity += 1
            if job.spot:  # a spot job waits for capacity
                self.clock.after(self._spread(terms.interrupted_for), self._start, job, False)
                return
            reason = "CapacityError: Unable to provision requested ML compute capacity."
            self.clock.after(terms.capacity_error_after, self._end, job, job.life, "Failed", reason)
            return
        provision = self._spread(terms.provision_warm if warm else terms.provision_cold)
        self.clock.after(provision, self._load, job, job.life, terms.load_warm if warm else terms.load_cold)

    def _load(self, job: Job, life: int, seconds: float) -> None:
        job.billed_from = self.clock.now
        self.clock.after(self._spread(seconds), self._train, job, life)

    def _train(self, job: Job, life: int) -> None:
        job.running, job.began = job.hosts, [self.clock.now] * job.hosts
        self._on_change(job)
        often = self.terms.interruptions if job.spot else self.terms.faults
        if often > 0:
            until = float(self._random.exponential(3600 / (often * job.hosts)))
            self.clock.after(until, self._interrupt if job.spot else self._break, job, life)
        for host in range(job.hosts):
            self._next(job, life, host)

    def _next(self, job: Job, life: int, host: int) -> None:
        task = next((task for task in job.tasks[host] if not task.done), None)
        if task:
            job.began[host] = self.clock.now
            self.clock.after(task.seconds - task.kept, self._done, job, life, host, task)
            return
        job.running -= 1
        if not job.running:
            self._end(job, life, "Completed", "")

    def _done(self, job: Job, life: int, host: int, task: Task) -> None:
        if job.life != life:
            return
        task.done = True
        self.meter.training += task.seconds - task.kept
        self._on_result(job, task, bool(self._random.random() < self.terms.task_failure))
        self._next(job, life, host)

    def _interrupt(self, job: Job, life: int) -> None:
        """Interrupt a spot job. SageMaker restarts it from its checkpoints when capacity is available."""
        if job.life != life:
            return
        self.meter.interrupted += 1
        self._checkpoint(job)
        self._bill(job)
        job.life += 1
        self._on_change(job)
        self.clock.after(self._spread(self.terms.interrupted_for), self._start, job, False)

    def _break(self, job: Job, life: int) -> None:
        if job.life == life:
            self.meter.broken += 1
            self._checkpoint(job)
            self._end(job, life, "Failed", "InternalServerError: We encountered an internal error.")

    def _checkpoint(self, job: Job) -> None:
        """Update the checkpoint of each host's current task."""
        for host, tasks in enumerate(job.tasks):
            task = next((task for task in tasks if not task.done), None)
            if task:
                ran = self.clock.now - job.began[host]
                self.meter.training += ran
                kept = task.kept + ran
                task.kept = kept - kept % self.terms.checkpoint_every

    def _bill(self, job: Job) -> None:
        if job.billed_from is not None:
            seconds = (self.clock.now - job.billed_from) * job.hosts
            self.meter.billed += seconds
            self.meter.of_it_spot += seconds * job.spot
            job.billed_from = None

    def _end(self, job: Job, life: int, status: str, reason: str) -> None:
        if job.life != life:
            return
        self._bill(job)
        job.status, job.reason = status, reason
        job.life += 1
        waiting = sum(hosts * len(pools) for hosts, pools in self._pools.items())
        if job.keep_alive and status == "Completed" and waiting + job.hosts <= self.terms.warm_quota:
            pool = self.clock.now, next(self._pool_numbers)
            self._pools.setdefault(job.hosts, []).append(pool)
            self.clock.after(job.keep_alive, self._expire, job.hosts, pool)
        else:
            self._used[job.spot] -= job.hosts
        self._on_change(job)

    def _bill_pool(self, hosts: int, since: float) -> None:
        self.meter.warm += (self.clock.now - since) * hosts

    def _expire(self, hosts: int, pool: tuple[float, int]) -> None:
        if pool in self._pools[hosts]:
            self._pools[hosts].remove(pool)
            self._bill_pool(hosts, pool[0])
            self._used[False] -= hosts

    @property
    def dollars(self) -> float:
        """Cost at the list price, with the assumed discount for spot instances."""
        meter = self.meter
        seconds = meter.billed - meter.of_it_spot * self.terms.spot_discount + meter.warm
        return seconds / 3600 * self.terms.price
