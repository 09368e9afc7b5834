"""A simulated launch day: users' requests arrive, and the dispatcher's code creates jobs in a simulated
SageMaker."""

from __future__ import annotations

import gc
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.personalization.fleet import (
    Clock,
    Fleet,
    FleetQuotaError,
    Job,
    NameTakenError,
    Task,
    Terms,
    ThrottledError,
)
from benchmarks.personalization.memory import MemoryObjects, MemoryStore
from personalization.core import archive, keys
from personalization.core.collect import INTERRUPTED, NO_CAPACITY, collect
from personalization.core.dispatch import dispatch, horizon
from personalization.core.model import JobStatus, Request, Status
from personalization.core.ports import Backend, Described, LaunchPostponedError, QuotaExceededError
from personalization.core.prepare import prepare
from personalization.core.settings import JobSettings, Pace
from settings import load
from settings.personalization import Personalization
from stacks.personalization import variables

CHOSEN = load({}).of(Personalization)
"""Default settings of the deployment."""
HOUR = 3600.0
EPOCH = 1_800_000_000.0
"""Start of the day in seconds since 1970. The value has no effect on the results."""
LONGEST = 14 * 24 * HOUR
"""Seconds after which a request that is not READY or FAILED counts as lost"""
EVERY_MINUTE, SWEEP = 60.0, CHOSEN.sweep_minutes * 60.0
"""Seconds between two scheduled runs of the dispatcher, and of the sweeper, as deployed."""
DISPATCHER, SWEEPER = 45.0, 20.0
"""Seconds in which a run of the dispatcher, and of the sweeper, may create jobs, as deployed."""
PACE = Pace(**variables.pace(CHOSEN))
HOSTS, TASKS_PER_HOST = CHOSEN.hosts_max, CHOSEN.tasks_per_host
TERMS = Terms()
AT_MOST = 1.0
"""Maximum number of jobs that SageMaker accepts per second, for the comparison with one job per user."""
STATE = "state/seconds"
"""Key of a fine-tune's checkpoint, relative to the fine-tune's folder. The simulated checkpoint contains only
the seconds of training so far."""

ADAPTER = {"adapter/adapter.json": b"{}", "adapter/adapter_model.safetensors": b"weights"}
"""Files of every adapter. All adapters are equal, because only times are simulated."""
_FILES = {
    name: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in ADAPTER.items()
}
ARCHIVE = archive.build(ADAPTER)
RESULT = {
    status: json.dumps({"version": 1, "status": status, "reason": "", "files": _FILES}).encode()
    for status in ("done", "failed")
}


def settings_of(chosen: Personalization) -> JobSettings:
    """Return the settings that the stack would pass to the Lambda functions."""
    told: dict[str, Any] = variables.job_settings(chosen, image="image", role="role", tags={})
    told["prompts"] = chosen.prompts
    return JobSettings(**told)


SETTINGS = settings_of(CHOSEN)


@dataclass(frozen=True)
class Day:
    """Arrival times of users' requests, in seconds.

    The share `spike` of the users arrives after the announcement at `spike_at`, at a rate that falls by the
    factor e every `spike_decay` seconds. The other users arrive over the day, with the highest rate at its
    middle and a quarter of that at its ends. The first `heavy` requests are from one user, who sends them at
    the same time."""

    users: int = 100_000
    heavy: int = 0
    spike: float = 0.4
    spike_at: float = 9 * HOUR
    spike_decay: float = HOUR
    length: float = 24 * HOUR

    def arrivals(self, random: np.random.Generator) -> np.ndarray:
        """Return the sorted arrival times, one for each request; float64, shape (users,)."""
        hurried = int(self.users * self.spike)
        after = self.spike_at + random.exponential(self.spike_decay, hurried)
        # rejection sampling: the arrival rate is proportional to 1 - 0.6 cos(2 pi t / day)
        times = random.uniform(0, self.length, 4 * self.users)
        wave = 1 - 0.6 * np.cos(2 * np.pi * times / self.length)
        steady = times[random.uniform(0, 1.6, len(times)) < wave][: self.users - hurried]
        arrivals = np.sort(np.concatenate([after, steady]))
        arrivals[: self.heavy] = arrivals[0]
        return arrivals


@dataclass(frozen=True)
class Work:
    """Durations of fine-tunes, and delays and losses of events. Times are in seconds.

    The number of a user's pictures is uniform between the two bounds in `images`. The deployed settings give
    the number of steps for it. The deployed code estimates the duration from the steps. The true duration is
    the estimate plus `overhead`, times a log-normal factor with mean 1.
    """

    images: tuple[int, int] = (5, 20)
    seconds_per_step: float = CHOSEN.seconds_per_step
    overhead: float = 10
    noise: float = 0.1
    call: float = 0.2
    """Duration of one call of `dispatch`: its reads and writes, and CreateTrainingJob."""
    stream: float = 0.5
    event: float = 2
    events_lost: float = 0.01
    events_twice: float = 0.01

    def draw(self, random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return numbers of pictures (int64) and true seconds (float64) of fine-tunes, each of shape
        (count,)."""
        images = random.integers(self.images[0], self.images[1] + 1, count)
        factor = random.lognormal(-(self.noise**2) / 2, self.noise, count)
        return images, (self.estimates(images) + self.overhead) * factor

    def estimates(self, images: np.ndarray) -> np.ndarray:
        """Return the durations in seconds that the deployed code estimates for these numbers of pictures."""
        steps = {number: SETTINGS.steps(number) for number in range(self.images[0], self.images[1] + 1)}
        return np.array([steps[number] for number in images.tolist()]) * self.seconds_per_step


@dataclass(frozen=True)
class Outcome:
    """Results of a launch day. Waits are from the request to READY, in seconds."""

    users: int
    ready: int
    failed: int
    """Failed requests. `without_room` of them failed for lack of capacity or after interruptions, the others
    because their task failed."""
    without_room: int
    lost: int
    duplicates: int
    waits: tuple[float, ...]
    """Percentiles 0, 1, ..., 100 of the waits."""
    waits_of_others: tuple[float, ...]
    """The same percentiles, without the requests of the heavy user."""
    last_ready: float
    """Time at which the last model became ready, in seconds since the start of the day."""
    jobs: int
    throttled: int
    refused: int
    gpu_hours: float
    training_share: float
    """Share of the billed time in which a fine-tune ran."""
    dollars: float
    warm_starts: int
    interrupted: int
    broken: int
    without_capacity: int
    most_instances: int
    starts: tuple[float, ...]
    """Creation time of each job, in seconds since the start of the day."""
    seconds: float
    """Real seconds that the simulation took."""


class LaunchDay:
    """One simulated launch day. `settings` and `pace` are the settings that the stack would pass to the
    Lambda functions."""

    def __init__(
        self, day: Day, work: Work, terms: Terms, settings: JobSettings, pace: Pace, seed: int
    ) -> None:
        self.day, self.work = day, work
        self.random = np.random.default_rng([seed, 1])
        self.clock = Clock()
        self.store, self.objects = MemoryStore(self._moved), MemoryObjects()
        self.fleet = Fleet(self.clock, terms, np.random.default_rng([seed, 2]), self._result, self._changed)
        self.backend = Backend(
            self.store, self.objects, self, self, settings, pace, bucket="data", prefix="launch-day"
        )
        # a generator of its own, so that all compared runs have the same users and fine-tunes
        given = np.random.default_rng([seed, 3])
        self.arrivals = day.arrivals(given)
        self.images, self.seconds = work.draw(given, day.users)
        self.truth: dict[str, float] = {}
        self.ready: dict[str, float] = {}
        self.trained: set[str] = set()
        self.in_job: dict[str, Job] = {}
        self.left = day.users
        self.duplicates = 0
        self.draining, self.drains_until = False, 0.0

    def run(self) -> Outcome:
        began = time.monotonic()
        self.clock.after(self.arrivals[0], self._arrive, 0)
        self.clock.after(EVERY_MINUTE, self._every_minute)
        self.clock.after(SWEEP, self._sweep)
        gc.disable()  # the garbage collector would find nothing, and its search takes half of the time
        try:
            with patch.object(archive, "build", lambda files: ARCHIVE):  # all archives are equal
                self.clock.run(LONGEST)
        finally:
            gc.enable()
        return self._outcome(time.monotonic() - began)

    # --- users ---

    def _arrive(self, number: int) -> None:
        settings, name = self.backend.settings, f"{number:026}"
        steps = settings.steps(int(self.images[number]))
        pace = self.store.seconds_per_step() or settings.seconds_per_step
        self.truth[name] = float(self.seconds[number])
        now = self.now()
        self.store.add(
            Request(
                request=name,
                user=f"user-{max(number, self.day.heavy)}",
                model=name,
                subject="cat",
                images=int(self.images[number]),
                steps=steps,
                estimate=steps * pace,
                status=Status.QUEUED,
                attempt=1,
                last_attempt=self.backend.pace.max_attempts,
                queued_at=now,
                updated=now,
            )
        )
        if number + 1 < self.day.users:
            self.clock.after(self.arrivals[number + 1] - self.clock.now, self._arrive, number + 1)

    def _moved(self, before: Request | None, after: Request) -> None:
        """Handle a change of a request: wake the dispatcher for a queued one, record the end of an ended
        one."""
        if after.status == Status.QUEUED:
            self.clock.after(self.work.stream, self._wake)
        elif after.status in (Status.READY, Status.FAILED):
            self.left -= 1
            if after.status == Status.READY:
                self.ready[after.request] = after.updated - after.queued_at

    # --- the Lambdas ---

    def _wake(self, seconds: float = DISPATCHER) -> None:
        """Do in virtual time what `dispatch.drain` does, one run at a time. The table's stream or a schedule
        starts a run."""
        self.drains_until = max(self.drains_until, self.clock.now + seconds)
        if not self.draining:
            self.draining = True
            self._drain()

    def _drain(self) -> None:
        wait = dispatch(self.backend)
        if wait is None or self.clock.now + wait >= self.drains_until:
            self.draining = False
        else:
            self.clock.after(max(wait, self.work.call), self._drain)

    def _tell(self, act: Callable[..., object], *given: object) -> None:
        """Deliver an event with a delay. A few events are delivered twice or lost."""
        fate = self.random.random()
        for _ in range(0 if fate < self.work.events_lost else 2 if fate > 1 - self.work.events_twice else 1):
            self.clock.after(float(self.random.exponential(self.work.event)), act, *given)

    def _collect(self, name: str) -> None:
        if job := self.store.job(name):
            collect(self.backend, job)

    def _prepare(self, name: str) -> None:
        prepare(self.backend, self.store.requests([name])[0])

    def _every_minute(self) -> None:
        if self.left:
            self._wake()
            self.clock.after(EVERY_MINUTE, self._every_minute)

    def _sweep(self) -> None:
        if self.left:
            end = horizon(self.backend, self.now())
            for job in self.store.due(JobStatus.CREATED, self.now(), limit=100, horizon=end):
                collect(self.backend, job)
            self._wake(SWEEPER)
            self.clock.after(SWEEP, self._sweep)

    # --- SageMaker: the methods of `ports.Training`, with the simulated fleet ---

    def create(self, request: dict[str, Any]) -> None:
        name = request["TrainingJobName"]
        listed = json.loads(self.objects.get(keys.tasks(name)) or b"")["tasks"]
        hosts: list[list[Task]] = [[] for _ in range(request["ResourceConfig"]["InstanceCount"])]
        for task in listed:
            own = task["request"]
            kept = self.objects.get(f"{keys.checkpoint(name, own)}{STATE}")
            hosts[task["host"]].append(Task(own, self.truth[own], float(kept or 0)))
        keep_alive = request["ResourceConfig"].get("KeepAlivePeriodInSeconds", 0)
        spot = request.get("EnableManagedSpotTraining", False)
        try:
            self.fleet.create(name, hosts, spot=spot, keep_alive=keep_alive)
        except NameTakenError:
            return
        except ThrottledError as error:
            raise LaunchPostponedError("Throttled") from error
        except FleetQuotaError as error:
            raise QuotaExceededError(str(error), error.limit, error.limit - error.used) from error
        for task in listed:
            other = self.in_job.get(task["request"])
            self.duplicates += other is not None and other.status == "InProgress"
            self.in_job[task["request"]] = self.fleet.jobs[name]

    def describe(self, name: str) -> Described | None:
        job = self.fleet.jobs.get(name)
        return Described(job.status, job.reason) if job else None

    def stop(self, name: str) -> None:
        raise AssertionError("no model is deleted on the launch day")

    def _changed(self, job: Job) -> None:
        if job.status == "Failed":
            for task in (task for host in job.tasks for task in host if task.kept and not task.done):
                self.objects.put(f"{keys.checkpoint(job.name, task.request)}{STATE}", str(task.kept).encode())
        self._tell(self._collect, job.name)

    def _result(self, job: Job, task: Task, failed: bool) -> None:
        """Write the files of a task to the bucket, `result.json` last."""
        self.duplicates += task.request in self.trained
        self.trained.add(task.request)
        folder = keys.checkpoint(job.name, task.request)
        for name, body in ADAPTER.items():
            self.objects.put(folder + name, body)
        self.objects.put(f"{folder}result.json", RESULT["failed" if failed else "done"])
        self._tell(self._prepare, task.request)

    # --- the clock: `ports.Clock` ---

    def now(self) -> float:
        return EPOCH + self.clock.now

    # --- results ---

    def _outcome(self, seconds: float) -> Outcome:
        meter = self.fleet.meter
        waits = np.array(list(self.ready.values()) or [np.nan])
        others = [wait for name, wait in self.ready.items() if int(name) >= self.day.heavy]
        reasons = [request.reason for request in self.store.all() if request.status == Status.FAILED]
        failed = len(reasons)
        moments = [request.updated for request in self.store.all() if request.status == Status.READY]
        return Outcome(
            users=self.day.users,
            ready=len(self.ready),
            failed=failed,
            without_room=sum(reason in (NO_CAPACITY, INTERRUPTED) for reason in reasons),
            lost=self.day.users - len(self.ready) - failed,
            duplicates=self.duplicates,
            waits=tuple(np.percentile(waits, np.arange(101)).tolist()),
            waits_of_others=tuple(np.percentile(others or [np.nan], np.arange(101)).tolist()),
            last_ready=float(max(moments, default=EPOCH)) - EPOCH,
            jobs=meter.created,
            throttled=meter.throttled,
            refused=meter.refused,
            gpu_hours=(meter.billed + meter.warm) / 3600,
            training_share=meter.training / max(meter.billed + meter.warm, 1),
            dollars=self.fleet.dollars,
            warm_starts=meter.warm_starts,
            interrupted=meter.interrupted,
            broken=meter.broken,
            without_capacity=meter.without_capacity,
            most_instances=meter.most_instances,
            starts=tuple(meter.starts),
            seconds=seconds,
        )


@dataclass(frozen=True)
class Account:
    """A configuration to compare: settings of the deployment, and quotas of the account.

    `part` scales users, quotas and rates by the same factor, so waits are as long as with `part` 1, except
    for random and rounding effects.
    """

    hosts: int = HOSTS
    tasks_per_host: int = TASKS_PER_HOST
    spot: bool = True
    keep_alive: int = 0
    rate: float = PACE.rate
    terms: Terms = TERMS
    users: int = 100_000
    part: float = 1.0
    heavy: int = 0
    """Number of requests that one user sends before all other users."""
    steadily: float = 0
    """Duration in seconds in which the users arrive, without an announcement; 0: arrivals as in `Day`."""

    @property
    def one_per_user(self) -> Account:
        """The same configuration with a separate job for each user, at SageMaker's maximum rate."""
        return replace(self, hosts=1, tasks_per_host=1, rate=AT_MOST)

    @property
    def choice(self) -> dict[str, Any]:
        """The deployment's settings for this configuration. `launch_day` validates them, so that only
        deployable settings are simulated."""
        return {
            "hosts_max": self.hosts,
            "tasks_per_host": self.tasks_per_host,
            "spot": self.spot,
            "keep_alive_seconds": self.keep_alive,
            "pace.rate": self.rate,
        }

    def launch_day(self, seed: int = 0, work: Work | None = None) -> Outcome:
        work, terms, part = work or Work(), self.terms, self.part
        terms = replace(
            terms,
            quota=round(terms.quota * part),
            spot_quota=round(terms.spot_quota * part),
            warm_quota=round(terms.warm_quota * part),
            rate=terms.rate * part,
        )
        chosen = load({f"personalization.{name}": value for name, value in self.choice.items()})
        settings = settings_of(chosen.of(Personalization))
        pace = replace(PACE, rate=self.rate * part)
        day = Day(users=round(self.users * part), heavy=self.heavy)
        if self.steadily:
            day = replace(day, spike=0, length=self.steadily)
        return LaunchDay(day, work, terms, settings, pace, seed).run()
