"""Clocks that jump by an hour or a day, forward and back: nothing blocks, and nothing is repeated."""

from __future__ import annotations

import time

import pytest

from personalization.core import ids
from personalization.core.collect import collect
from personalization.core.dispatch import LONGEST_WAIT, claim, dispatch, drain, horizon
from personalization.core.generations import shown_status
from personalization.core.model import JobStatus, Status
from personalization.core.pacing import SKEW_SECONDS, Bucket, take
from personalization.core.ports import LaunchPostponedError, QuotaExceededError
from personalization.core.rows import GenerationRow
from personalization.core.times import iso
from tests.support.personalization.desk import START, USER, Desk
from tests.support.personalization.pace import Shared

HOUR, DAY = 3600.0, 86_400.0
JUMPS = [HOUR, DAY, -HOUR, -DAY]


def takes(bucket: Shared, now: float, seconds: float) -> int:
    """Return the number of tokens taken from `now` on, with an attempt every second."""
    return sum(bucket.take(now + second) == 0 for second in range(int(seconds)))


@pytest.mark.parametrize("jump", JUMPS)
def test_bucket_keeps_its_rate_after_a_clock_jumped(jump: float) -> None:
    # given a token bucket that is refilled with half a token a second, with an attempt every second
    bucket = Shared()
    assert takes(bucket, START, 60) == 3 + 29
    # when the clock jumps, the bucket is used, and the clock jumps back
    there = takes(bucket, START + 60 + jump, 60)
    back = takes(bucket, START + 120, 200)
    # then each jump admits at most one additional burst, and blocks requests for at most the allowed clock
    # skew
    assert (60 - SKEW_SECONDS) / 2 <= there <= 3 + 30
    assert (200 - SKEW_SECONDS) / 2 - 1 <= back <= 3 + 100


@pytest.mark.parametrize("jump", JUMPS)
def test_bucket_of_a_user_admits_requests_after_a_clock_jump(jump: float) -> None:
    # given a user's token bucket, emptied by a caller whose clock is wrong
    rate, burst = 60 / 60, 60
    bucket = Shared()
    while bucket.take(START + jump, rate, burst) == 0:
        pass
    # then the user is admitted again within the allowed clock skew
    waited = next(second for second in range(200) if bucket.take(START + second, rate, burst) == 0)
    assert waited <= SKEW_SECONDS + 1 / rate


def test_bucket_ignores_a_stored_time_far_ahead() -> None:
    state = Bucket(0.0, START + HOUR)
    written: list[Bucket] = []

    def swap(before: Bucket | None, after: Bucket) -> bool:
        written.append(after)
        return True

    assert take(lambda: state, swap, START, 0.5, 3) == pytest.approx(2.0)
    assert written == [Bucket(0.0, START)]


def onwards(desk: Desk, seconds: float) -> None:
    """Run the dispatcher and the sweeper's check of jobs every ten seconds, for `seconds` seconds of virtual
    time."""
    for _ in range(int(seconds / 10)):
        dispatch(desk.backend)
        for job, told in desk.training.jobs.items():
            found = desk.store.job(job)
            if not told.ended and found:
                for name in found.requests:
                    desk.result(name)
                desk.end(job)  # the event of the job's end is lost
        now = desk.clock.time
        for job in desk.store.due(JobStatus.CREATED, now, 100, horizon=horizon(desk.backend, now)):
            collect(desk.backend, job)
        desk.clock.time += 10


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize(
    "refusal", [None, LaunchPostponedError("no answer"), QuotaExceededError("full", 4, 0)], ids=repr
)
def test_dispatcher_and_sweeper_work_after_a_clock_jump(jump: float, refusal: Exception | None) -> None:
    # given requests that are dispatched, or postponed, with a wrong clock
    desk = Desk(burst=9)
    desk.clock.time = START + jump
    names = desk.add(3)
    desk.training.refuse = refusal
    dispatch(desk.backend)
    # when the clock is right again
    desk.clock.time, desk.training.refuse = START, None
    names += desk.add(3)
    onwards(desk, desk.backend.pace.stale_seconds + LONGEST_WAIT + 2 * SKEW_SECONDS)
    # then all requests are done, each once
    assert {desk.request(name).status for name in names} == {Status.READY}
    assert {desk.request(name).attempt for name in names} == {1}


@pytest.mark.parametrize("jump", JUMPS)
def test_job_of_a_killed_dispatcher_is_launched_after_clock_jump(jump: float) -> None:
    desk = Desk(burst=9)
    [name] = desk.add(1)
    desk.clock.time = START + jump
    assert claim(desk.backend, desk.store.queue(1), steady=False)
    desk.clock.time = START
    onwards(desk, desk.backend.pace.stale_seconds + 2 * SKEW_SECONDS)
    assert desk.request(name).status == Status.READY
    assert len(desk.store.claimed) == 1


@pytest.mark.parametrize("jump", [HOUR, DAY])
def test_instances_are_not_kept_because_a_clock_was_ahead(jump: float) -> None:
    # given the stored time of an earlier job, from a dispatcher whose clock was ahead
    desk = Desk(keep_alive=600, burst=9)
    desk.store.swap_bucket(None, Bucket(9.0, START + jump))
    desk.add(1)
    dispatch(desk.backend)
    # then the next job does not count as a job soon after the earlier one, and its instances are not kept
    assert "KeepAlivePeriodInSeconds" not in desk.training.asked[-1]["ResourceConfig"]


@pytest.mark.parametrize("jump", JUMPS)
def test_drain_ends_in_time_despite_clock_jumps(jump: float) -> None:
    # given a queue whose dispatch takes longer than the time limit, and a clock that jumps in the meantime
    desk = Desk(burst=1, rate=1.0, tasks_per_host=1, hosts_max=1)
    desk.add(100)
    monotonic, jumps = [0.0], [jump]

    def sleep(seconds: float) -> None:
        monotonic[0] += seconds
        desk.clock.time += seconds + (jumps.pop() if jumps else 0.0)

    drain(desk.backend, 20, sleep, lambda: monotonic[0])
    assert 18 <= monotonic[0] <= 20
    # and jobs were created at the configured pace, except for one additional burst
    assert 10 <= len(desk.training.jobs) <= 23


@pytest.mark.parametrize("jump", JUMPS)
def test_generation_stamped_by_a_wrong_clock_ends(jump: float) -> None:
    assert shown_status(running_since(START + jump), START) == "FAILED"
    assert shown_status(running_since(START), START + 1) == "RUNNING"


def running_since(moment: float) -> GenerationRow:
    return {
        "user": USER,
        "generation": ids.new(moment),
        "model": ids.new(moment),
        "prompt": "a cat",
        "seed": 1,
        "count": 1,
        "status": "RUNNING",
        "created": iso(moment),
        "updated": iso(moment),
    }


@pytest.mark.parametrize("jump", JUMPS)
def test_queue_order_does_not_depend_on_a_wrong_clock(jump: float) -> None:
    # given a request that was queued with the time of a wrong clock, and two later requests
    desk = Desk(tasks_per_host=1, hosts_max=1, burst=9)
    desk.clock.time = START + jump
    [early] = desk.add(1, user="a")
    desk.clock.time = START
    desk.add(2, user="b")
    for _ in range(2):
        dispatch(desk.backend)
        desk.clock.time += 1
    assert desk.request(early).status == Status.LAUNCHED


def test_drain_measures_waits_by_monotonic_time() -> None:
    assert drain.__defaults__ == (time.monotonic,)


@pytest.mark.parametrize("behind", [0.0, 1.0, SKEW_SECONDS])
def test_dispatcher_with_a_slow_clock_respects_the_backoff(behind: float) -> None:
    # given an account whose quota was used up so often that the backoff has reached its maximum
    desk = Desk(burst=1000, rate=10.0)
    desk.training.refuse = QuotaExceededError("full", 4, 0)
    desk.add(1)
    wait = 0.0
    while wait < LONGEST_WAIT - 1:
        desk.clock.time += wait
        wait = dispatch(desk.backend) or 0.0
    begun = len(desk.store.claimed)
    # when another dispatcher runs, whose clock is behind
    desk.clock.time -= behind
    again = dispatch(desk.backend)
    # then this dispatcher also waits until the stored time, and creates no job
    assert again == pytest.approx(wait + behind)
    assert len(desk.store.claimed) == begun
