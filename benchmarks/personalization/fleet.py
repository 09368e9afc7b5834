"""SageMaker training in virtual time: its request rate, quota, start-up, warm pools, spot and failures.

It behaves as AWS documents. What AWS does not state (minutes to start, interruptions, missing capacity)
stands in `Terms`, as assumptions that a run can change.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np


class Clock:
    """Virtual seconds since the start, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._agenda: list[tuple[float, int, Callable[..., object], tuple]] = []
        self._order = itertools.count()

    def after(self, seconds: float, act: Callable[..., object], *given: object) -> None:
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), act, given))

    def run(self, until: float = float("inf")) -> None:
        """Let everything happen that is due up to `until`, in order."""
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, act, given = heapq.heappop(self._agenda)
            act(*given)


@dataclass(frozen=True)
class Terms:
    """What the account has and how the service behaves. Times in seconds, prices in dollars.

    Documented: that CreateTrainingJob has a rate and an account a quota of instances, that a warm pool
    serves only jobs of its number of hosts, is billed while it waits and counts towards the quota, and that
    spot jobs have none. `price` is a list price. The rest is assumed.
    """

    quota: int = 800
    """Instances on demand at once, those that wait in warm pools included."""
    spot_quota: int = 800
    """Spot instances at once."""
    warm_quota: int = 800
    """Instances that may wait in warm pools at once. A job beyond it runs, and leaves no pool."""
    rate: float = 1.0
    burst: int = 5
    price: float = 1.515
    """An hour of ml.g5.2xlarge for training, on demand in us-east-1: the list price of November 2026, as
    public tools quote it."""
    provision_cold: float = 150
    provision_warm: float = 10
    load_cold: float = 90
    load_warm: float = 45
    startup_spread: float = 0.25
    capacity_error: float = 0.01
    capacity_error_after: float = 300
    faults: float = 0.002
    """Broken instances, for each hour of one: the job fails."""
    spot_discount: float = 0.6
    interruptions: float = 0.05
    """For each hour of a spot instance: the job waits `interrupted_for` and begins again."""
    interrupted_for: float = 300
    checkpoint_every: float = 60
    task_failure: float = 0.002


class ThrottledError(Exception):
    """CreateTrainingJob was called more often than its rate allows."""


class FleetQuotaError(Exception):
    """More instances were asked for than the account may run: `limit`, of which `used` are in use."""

    def __init__(self, limit: int, used: int) -> None:
        super().__init__(f"{used} of {limit} instances are in use")
        self.limit, self.used = limit, used


class NameTakenError(Exception):
    """A training job of that name was created before."""


@dataclass
class Task:
    """A fine-tune: the seconds it takes in truth, and those that lie in its last checkpoint."""

    request: str
    seconds: float
    kept: float = 0.0
    done: bool = False


@dataclass
class Job:
    """A training job: per host, its tasks in order. `life` counts its starts: spot may take several."""

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
    """What came of a run. GPU seconds are those billed, of all instances together."""

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
    """`CreateTrainingJob` and what follows. Tells `on_result(job, task, failed)` as a task's result is
    there, and `on_change(job)` as the job's status changes."""

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
        self._used = {False: 0, True: 0}  # instances, by whether they are spot
        self._pools: dict[int, list[tuple[float, int]]] = {}  # hosts -> (since, number) of those that wait
        self._pool_numbers = itertools.count()
        self._tokens, self._refilled = float(terms.burst), 0.0

    def create(
        self, name: str, tasks: Sequence[Sequence[Task]], *, spot: bool = False, keep_alive: float = 0
    ) -> None:
        """Raises `ThrottledError`, `NameTakenError` or `FleetQuotaError`, in the order of AWS."""
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
        """Provisioning is not billed; from the image's pull on, every instance is."""
        terms = self.terms
        # a cluster needs all of its instances, so it fails when any of them cannot be had
        if not warm and self._random.random() > (1 - terms.capacity_error) ** job.hosts:
            self.meter.without_capacity += 1
            if job.spot:  # waits for it
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
        """A spot instance is taken back: SageMaker starts the job anew from its checkpoints when it can."""
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
        """What each host keeps of the task that it was in."""
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
        """At the list price, less the discount that is assumed for spot."""
        meter = self.meter
        seconds = meter.billed - meter.of_it_spot * self.terms.spot_discount + meter.warm
        return seconds / 3600 * self.terms.price
