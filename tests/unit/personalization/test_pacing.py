"""The token bucket keeps its rate with any number of concurrent callers."""

from __future__ import annotations

import random

import pytest

from personalization.core.pacing import CONTENDED_SECONDS, TRIES, take
from tests.support.personalization.pace import Shared


def test_bucket_admits_a_burst_then_refills_at_its_rate():
    bucket = Shared()
    assert [bucket.take(100.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(100.0) == pytest.approx(2.0), "a token must take 2 s at half a token a second"
    assert bucket.take(101.0) == pytest.approx(1.0)
    assert bucket.take(102.0) == 0
    assert bucket.take(102.0) == pytest.approx(2.0)


def test_bucket_refills_to_the_burst_at_most():
    bucket = Shared()
    assert bucket.take(0.0) == 0
    assert [bucket.take(1e6) for _ in range(4)] == [0, 0, 0, pytest.approx(2.0)]


@pytest.mark.parametrize("seed", range(10))
def test_bucket_never_admits_more_than_burst_plus_refill(seed):
    rng, bucket, now, passed = random.Random(seed), Shared(), 0.0, []
    for _ in range(2000):
        now += rng.expovariate(3.0)
        if bucket.take(now, rate=0.8, burst=2) == 0:
            passed.append(now)
    for first in range(0, len(passed), 7):
        for last in range(first, len(passed), 11):
            allowed = 2 + 0.8 * (passed[last] - passed[first]) + 1e-6
            assert last - first + 1 <= allowed
    assert len(passed) == pytest.approx(0.8 * now, rel=0.05), "the bucket must not be slower than its rate"


def test_clock_behind_others_refills_no_token_twice():
    bucket = Shared()
    assert [bucket.take(100.0, burst=1) for _ in range(1)] == [0]
    assert bucket.take(40.0, burst=1) > 0
    assert bucket.take(102.0, burst=1) == 0
    assert bucket.take(50.0, burst=1) > 0, "a clock that is behind must not set back the stored time"
    assert bucket.take(103.0, burst=1) > 0


def test_take_retries_after_conflicts_and_returns_a_short_wait():
    assert Shared(rivals=TRIES - 1).take(1.0) == 0
    crowded = Shared(rivals=TRIES)
    assert crowded.take(1.0) == CONTENDED_SECONDS
    assert crowded.state is None


def test_several_tokens_are_taken_atomically():
    # given
    bucket = Shared()

    def several(cost: float, now: float) -> float:
        return take(bucket.read, bucket.swap, now, rate=0.5, burst=6, cost=cost)

    # when, then
    assert several(4, 100.0) == 0
    assert several(4, 100.0) == pytest.approx(4.0), "2 tokens must be left, 2 more must take 4 s"
    assert several(2, 100.0) == 0
    assert several(-4, 100.0) == 0, "returning tokens must never wait"
    assert several(4, 100.0) == 0


def test_returned_tokens_fill_the_bucket_to_the_burst_at_most():
    bucket = Shared()
    for _ in range(3):
        assert take(bucket.read, bucket.swap, 100.0, rate=0.5, burst=6, cost=-4) == 0
    assert take(bucket.read, bucket.swap, 100.0, rate=0.5, burst=6, cost=6) == 0
    assert take(bucket.read, bucket.swap, 100.0, rate=0.5, burst=6, cost=1) == pytest.approx(2.0)
