"""The token bucket: never faster than its rate, whoever takes and however they crowd."""

from __future__ import annotations

import random

import pytest

from personalization.pacing import CONTENDED_SECONDS, TRIES, Bucket, take


class Shared:
    """One item that many change by compare and swap. `rivals` of the next swaps come too late."""

    def __init__(self, rivals: int = 0):
        self.state: Bucket | None = None
        self.rivals = rivals

    def read(self) -> Bucket | None:
        return self.state

    def swap(self, before: Bucket | None, after: Bucket) -> bool:
        if self.rivals:
            self.rivals -= 1
            return False
        assert self.state == before, "nobody else is here"
        self.state = after
        return True

    def take(self, now: float, rate: float = 0.5, burst: float = 3) -> float:
        return take(self.read, self.swap, now, rate, burst)


def test_a_burst_passes_at_once_then_one_comes_back_at_a_time():
    bucket = Shared()
    assert [bucket.take(100.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(100.0) == pytest.approx(2.0), "at half a token a second"
    assert bucket.take(101.0) == pytest.approx(1.0)
    assert bucket.take(102.0) == 0
    assert bucket.take(102.0) == pytest.approx(2.0)


def test_a_long_pause_fills_it_to_the_burst_and_no_further():
    bucket = Shared()
    assert bucket.take(0.0) == 0
    assert [bucket.take(1e6) for _ in range(4)] == [0, 0, 0, pytest.approx(2.0)]


@pytest.mark.parametrize("seed", range(10))
def test_in_no_span_of_time_do_more_pass_than_the_burst_and_what_came_back(seed):
    rng, bucket, now, passed = random.Random(seed), Shared(), 0.0, []
    for _ in range(2000):
        now += rng.expovariate(3.0)
        if bucket.take(now, rate=0.8, burst=2) == 0:
            passed.append(now)
    for first in range(0, len(passed), 7):
        for last in range(first, len(passed), 11):
            allowed = 2 + 0.8 * (passed[last] - passed[first]) + 1e-6
            assert last - first + 1 <= allowed
    assert len(passed) == pytest.approx(0.8 * now, rel=0.05), "and not much slower than it"


def test_a_clock_that_is_behind_gives_no_tokens_twice():
    bucket = Shared()
    assert [bucket.take(100.0, burst=1) for _ in range(1)] == [0]
    assert bucket.take(40.0, burst=1) > 0
    assert bucket.take(102.0, burst=1) == 0
    assert bucket.take(50.0, burst=1) > 0, "the late clock must not turn back the time of the last"
    assert bucket.take(103.0, burst=1) > 0


def test_who_is_overtaken_looks_again_and_who_always_is_comes_back_soon():
    assert Shared(rivals=TRIES - 1).take(1.0) == 0
    crowded = Shared(rivals=TRIES)
    assert crowded.take(1.0) == CONTENDED_SECONDS
    assert crowded.state is None
