"""A replay of hours on the market's clock, with a trial in each hour."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.power_bidding.faults.clock import HeldClock
from benchmarks.power_bidding.faults.cloud import CloudFaults
from benchmarks.power_bidding.faults.feeds import FeedFaults
from benchmarks.power_bidding.faults.outcomes import Hour
from benchmarks.power_bidding.faults.pipelines import LOOK_SECONDS, PipelineFaults
from benchmarks.power_bidding.faults.plan import ALONE, HOURS, LANES, PIPELINE, PIPELINE_KINDS, Queue, Trial
from local.cloud import LocalCloud
from scenarios import Progress, ScenarioError, aws
from scenarios.power_bidding.desk import Desk, wait_until
from scenarios.power_bidding.history import Replay, later
from scenarios.power_bidding.replay import FeedServer

STARTS_AFTER = 2 / 60
"""Hours from the start of an hour to its scheduled run."""
OVERDUE_SECONDS = 10
"""Maximum wait for an hour's offer after its deadline."""
MOST_BEHIND = 0.4
"""When a run is overdue by more than this share of the time to its deadline, the clock is held at real time
until no run is overdue. Otherwise hours would be lost because the machine is slow, not because of a fault."""
PREPARE_SECONDS = 300
AT_ONCE = 24


@dataclass
class InFlight:
    """An hour in flight: its offers are not final."""

    hour: Hour
    held: bool
    """Whether the hour's trial still occupies its lane"""
    done: Future[None] | None = None


class HourlyRun:
    """Play the hours of a replay: inject the faults of each hour's trial, and start the hour's run.

    `rate` is in market hours per real hour; `seconds` is the duration of a run.
    """

    def __init__(
        self,
        cloud: LocalCloud,
        desk: Desk,
        feeds: FeedServer,
        replay: Replay,
        restart: Callable[[], None],
        seconds: float,
        chance: random.Random,
        say: Progress,
    ) -> None:
        """:param restart: kills and restarts the cloud"""
        self._desk, self._feeds, self._replay, self._say = desk, feeds, replay, say
        self._seconds = seconds
        self._states = aws.client("stepfunctions")
        self._feed_faults = FeedFaults(feeds, replay.location, chance)
        self._pipeline_faults = PipelineFaults(cloud, desk.outputs, chance)
        self._cloud_faults = CloudFaults(cloud, desk, restart, chance)
        self._flights: list[InFlight] = []
        self.clock = HeldClock(desk, feeds, later(replay.first, -1))
        self.rate = desk.rate
        self.hours: list[Hour] = []
        self.most_behind = 0.0
        """Maximum delay of a run's start, in seconds"""

    def live(self, queue: Queue) -> None:
        """Start a run in every hour until all trials are made and all offers are final."""
        self.clock.start()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while any(each.hour.trial.faults for each in self._open()) or len(queue):
                trial = queue.next(self._free(queue))
                self._await_turn()
                if trial.lane == ALONE:
                    self._await_all()
                    self._await_turn()
                flight = self._begin(trial)
                flight.done = pool.submit(self._finish, flight, queue)
                self._flights.append(flight)
                if trial.lane == ALONE:
                    flight.done.result()
            self._await_all()
        self._feeds.clock(paused=True)

    def _open(self) -> list[InFlight]:
        """Return the hours in flight. Raises the error of an hour that has failed."""
        for flight in self._flights:
            if flight.done and flight.done.done():
                flight.done.result()
        self._flights = [each for each in self._flights if each.done and not each.done.done()]
        return self._flights

    def _free(self, queue: Queue) -> Collection[str]:
        """Return the lanes whose next trial may begin."""
        flights = self._open()
        held = {each.hour.trial.lane for each in flights if each.held}
        special = [lane for lane in LANES if lane not in (HOURS, ALONE)]
        others = queue.left(special) or any(each.hour.trial.lane in special for each in flights)
        if others or self.clock.held or self._is_late():  # a trial in the lane `ALONE` blocks later hours
            held.add(ALONE)
        return [lane for lane in LANES if lane not in held]

    def _behind(self) -> float:
        """
        Return how long the next run is overdue, in real seconds while the clock is not held.

        The value is negative before the run is due.
        """
        due = len(self.hours) + 1 + STARTS_AFTER
        return (self.clock.hours() - due) * 3600 / self.rate

    def _is_late(self) -> bool:
        return self._behind() > MOST_BEHIND * self._desk.notice_hours * 3600 / self.rate

    def _await_turn(self) -> None:
        """Wait for the next hour of the market. Hold the clock at real time while runs are overdue."""
        behind = self._behind()
        self.most_behind = max(self.most_behind, behind)
        if self._is_late():
            self.clock.hold()
        elif behind <= 0:
            self.clock.release()
            time.sleep(-behind)

    def _await_all(self) -> None:
        self.clock.release()  # some runs wait for a later market time, which a held clock never reaches
        for flight in self._open():
            if flight.done:
                flight.done.result()

    def _begin(self, trial: Trial) -> InFlight:
        """Inject the faults of an hour, start its run, and wait for its dataset."""
        run = later(self._replay.first, len(self.hours))
        offered = later(run, self._desk.lead_hours)
        notice = timedelta(hours=self._desk.notice_hours)
        hour = Hour(trial, run, offered, datetime.fromisoformat(run).astimezone(UTC) + notice)
        self.hours.append(hour)
        self._feed_faults.begin(hour)
        for fault in trial.faults:
            self._cloud_faults.begin(hour, fault)
            if fault.kind in PIPELINE_KINDS:
                self._pipeline_faults.begin(fault)
        retrain = trial.lane == PIPELINE
        execution = self._desk.start(run, retrain=retrain)
        for fault in trial.faults:
            self._cloud_faults.strike(hour, fault, self._seconds)
        try:
            wait_until(
                lambda: self._ended(execution, hour),
                PREPARE_SECONDS,
                f"{execution} did not end",
                LOOK_SECONDS,
            )
        except ScenarioError as error:
            hour.notes.append(str(error))
        self._feed_faults.end(hour)
        return InFlight(hour, held=trial.lane != HOURS)

    def _ended(self, execution: str, hour: Hour) -> bool:
        try:
            found = self._states.describe_execution(executionArn=execution)
        except (BotoCoreError, ClientError) as error:
            hour.notes.append(f"{execution}: {error}")
            return True
        if found["status"] == "SUCCEEDED":
            hour.flagged = json.loads(found["output"])["status"] != "complete"
        elif found["status"] != "RUNNING":
            hour.notes.append(f"no dataset, {found['status']}: {found.get('cause', '')[:200]}")
        return found["status"] != "RUNNING"

    def _finish(self, flight: InFlight, queue: Queue) -> None:
        """Wait until an hour's offers are final, then end its faults."""
        hour = flight.hour

        def release() -> None:
            flight.held = False

        for fault in hour.trial.faults:
            if fault.kind in PIPELINE_KINDS:
                self._pipeline_faults.at_work(hour, fault, release, lambda: self._settled(hour))
        while not self._settled(hour):
            time.sleep(LOOK_SECONDS)
        for fault in hour.trial.faults:
            self._cloud_faults.end(hour, fault)
        queue.again(hour.trial, hour.missed)
        if hour.trial.faults:
            self._tell(hour, len(queue))

    def _settled(self, hour: Hour) -> bool:
        """Return whether an hour has an offer or an explicit no-offer, or has timed out."""
        overdue = self._hours_to(hour) + 1 + OVERDUE_SECONDS * self.rate / 3600
        return self.clock.hours() > overdue or self._desk.offered(hour.run)

    def _hours_to(self, hour: Hour) -> float:
        """Return the market hours from the first run's hour to an hour's deadline."""
        first = datetime.fromisoformat(self._replay.first).astimezone(UTC)
        return (hour.due - first) / timedelta(hours=1)

    def _tell(self, hour: Hour, left: int) -> None:
        faults = ", ".join(fault.name for fault in hour.trial.faults)
        missed = f" · missed: {', '.join(fault.name for fault in hour.missed)}" if hour.missed else ""
        notes = f" · {'; '.join(hour.notes)}" if hour.notes else ""
        behind = f" · {self._behind():.0f} s behind" if self._behind() > 0 else ""
        self._say(f"{hour.run} · {faults}{missed}{notes}{behind} · {left} trials left")
