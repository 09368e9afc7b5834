"""The simulation of 100,000 users: exact caches, packing within its proven bound, a training service that
behaves as AWS documents, and a launch day without lost requests."""

from __future__ import annotations

import itertools
import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.personalization import cache, packing, scale
from benchmarks.personalization.fleet import (
    Clock,
    Fleet,
    FleetQuotaError,
    NameTakenError,
    Task,
    Terms,
    ThrottledError,
)
from benchmarks.personalization.growth import PACE, Account, Outcome, Work
from personalization.core.packing import lower_bound, makespan, pack

# --- caches ---


def least_recently_used(asked: np.ndarray, places: int) -> list[bool]:
    """Return, for each request, whether it is a hit in a simulated LRU cache."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = []
    for model in asked.tolist():
        hits.append(model in held)
        held[model] = None
        held.move_to_end(model)
        if len(held) > places:
            held.popitem(last=False)
    return hits


@pytest.mark.parametrize(("exponent", "requests"), [(1.0, 5_000), (0.6, 1_024), (1.4, 1)])
def test_stack_distances_agree_with_a_simulated_lru_cache(exponent: float, requests: int) -> None:
    asked = cache.stream(500, exponent, seed=1, requests=requests)
    distances = cache.stack_distances(asked)
    for places in (1, 2, 10, 123, 499, 500):
        assert (distances < places).tolist() == least_recently_used(asked, places)


@pytest.mark.parametrize("route", cache.ROUTES)
def test_replicas_have_separate_caches(route: str) -> None:
    # given requests that are routed to three replicas
    users, places = 300, 20
    asked = cache.stream(users, 1.0, seed=2, requests=6_000)
    to = cache.routed(asked, users, 3, route)
    # then the hit rate is that of three separate caches, each of which gets the requests of its replica only
    hits = np.empty(len(asked), dtype=bool)
    for replica in range(3):
        hits[to == replica] = least_recently_used(asked[to == replica], places)
    settled = int(len(asked) * cache.SETTLED)
    assert cache.replicas(asked, users, 3, route).hit_rate(places) == pytest.approx(hits[settled:].mean())


def test_hit_rate_of_adapters_is_five_times_full_copies() -> None:
    found = cache.hit_rate_ratio(cache.size_ratio())
    assert found["hit_rate_ratio"] == pytest.approx(
        found["hit_rate_adapters"] / found["hit_rate_full_copies"], rel=1e-9
    )
    assert found["hit_rate_ratio"] >= 5
    # and the memory for one full model holds only the base model, and no adapters
    assert cache.places(1, 300) == 0


# --- packing ---


def best(seconds: list[float], hosts: int) -> float:
    """Return the minimum makespan by exhaustive search."""
    every = itertools.product(range(hosts), repeat=len(seconds))
    return min(
        max(sum(s for s, on in zip(seconds, plan, strict=True) if on == h) for h in range(hosts))
        for plan in every
    )


@pytest.mark.parametrize(("tasks", "hosts"), [(5, 2), (7, 2), (7, 3), (6, 4)])
def test_packing_keeps_grahams_bound(tasks: int, hosts: int) -> None:
    for seed in range(10):
        seconds = np.random.default_rng([seed, tasks, hosts]).uniform(1, 10, tasks).tolist()
        least = best(seconds, hosts)
        assert lower_bound(seconds, hosts) <= least + 1e-9
        # Graham 1969: packing the longest tasks first has a makespan of at most 4/3 - 1/(3 hosts) times the
        # minimum
        assert makespan(seconds, pack(seconds, hosts)) <= (4 / 3 - 1 / (3 * hosts)) * least + 1e-9


def test_makespan_of_a_full_job_is_within_5_percent() -> None:
    found = packing.makespan_ratio()
    assert 1 <= found["makespan_ratio_low"] < found["makespan_ratio"] < found["makespan_ratio_high"] <= 1.05
    assert packing.makespan_ratio(packing=packing.chunks)["makespan_ratio"] > found["makespan_ratio_high"]
    assert packing.chunks([1, 1, 1], 2) == [[0, 1], [2]]


# --- the simulated training service ---


class Seen:
    """A simulated fleet of training instances, and the results and ends of its jobs."""

    def __init__(self, **terms: float) -> None:
        self.clock = Clock()
        self.results: list[tuple[float, str]] = []
        self.ends: list[tuple[float, str, str]] = []
        fixed = {
            "startup_spread": 0,
            "capacity_error": 0,
            "task_failure": 0,
            "faults": 0,
            "burst": 100,
        } | terms
        self.fleet = Fleet(
            self.clock,
            Terms(**fixed),  # type: ignore[arg-type]
            np.random.default_rng(0),
            lambda job, task, failed: self.results.append((self.clock.now, task.request)),
            lambda job: self.ends.append((self.clock.now, job.name, job.status)),
        )

    def create(self, name: str, *hosts: list[float], spot: bool = False, keep_alive: float = 0) -> None:
        tasks = [[Task(f"{name}/{i}/{j}", s) for j, s in enumerate(host)] for i, host in enumerate(hosts)]
        self.fleet.create(name, tasks, spot=spot, keep_alive=keep_alive)


def test_calls_beyond_the_rate_are_throttled() -> None:
    seen = Seen(burst=2, rate=1)
    seen.create("a", [1])
    seen.create("b", [1])
    with pytest.raises(ThrottledError):
        seen.create("c", [1])
    seen.clock.run(1)
    seen.clock.now = 1
    seen.create("c", [1])
    assert (seen.fleet.meter.calls, seen.fleet.meter.throttled, seen.fleet.meter.created) == (4, 1, 3)


def test_simulated_job_names_are_unique_and_the_quota_counts_instances() -> None:
    seen = Seen(quota=3)
    seen.create("a", [10], [10])
    with pytest.raises(NameTakenError):
        seen.create("a", [10])
    with pytest.raises(FleetQuotaError):
        seen.create("b", [10], [10])
    seen.create("c", [10])
    assert seen.fleet.meter.most_instances == 3
    seen.clock.run()
    seen.create("d", [1], [1], [1])  # all instances are free again


def test_results_come_per_task_and_billing_lasts_until_job_end() -> None:
    seen = Seen(provision_cold=100, load_cold=20)
    seen.create("a", [50, 30], [60])
    seen.clock.run()
    assert seen.results == [(170, "a/0/0"), (180, "a/1/0"), (200, "a/0/1")]
    assert seen.ends[-1] == (200, "a", "Completed")
    meter = seen.fleet.meter
    assert (meter.billed, meter.training) == (2 * 100, 140)
    assert seen.fleet.dollars == pytest.approx(200 / 3600 * Terms().price)


def test_warm_pool_serves_matching_jobs_and_is_billed_while_idle() -> None:
    seen = Seen(quota=4, provision_cold=100, load_cold=20, provision_warm=5, load_warm=5)
    seen.create("a", [80], [80], keep_alive=600)
    seen.clock.run(300)  # the job ended at 200 s, and its instances have been in a warm pool since then
    seen.clock.now = 300
    seen.create("b", [10], keep_alive=600)  # another instance configuration, so the job has a cold start
    seen.create("c", [10], [10], keep_alive=600)
    assert seen.fleet.meter.warm_starts == 1
    assert seen.fleet.meter.warm == 2 * 100
    seen.clock.run()
    # at the end, both pools are idle for ten minutes, and are billed for this time
    assert seen.fleet.meter.warm == 2 * 100 + 2 * 600 + 600
    seen.create("d", [1], [1], [1], [1])


def test_spot_job_resumes_from_a_checkpoint_without_repeated_results() -> None:
    seen = Seen(interruptions=20, checkpoint_every=60)
    for number in range(20):
        seen.create(f"job{number}", [300, 300], [600], spot=True, keep_alive=600)
    seen.clock.run()
    meter = seen.fleet.meter
    assert meter.interrupted > 20
    requests = [request for _, request in seen.results]
    assert len(requests) == len(set(requests)) == 60
    # an interruption costs each of the two hosts less than one checkpoint interval
    assert 20 * 1200 <= meter.training <= 20 * 1200 + meter.interrupted * 2 * 60
    assert meter.warm == 0  # spot jobs have no warm pools
    assert meter.of_it_spot == pytest.approx(meter.billed)


def test_missing_capacity_fails_the_job_and_bills_nothing() -> None:
    seen = Seen(capacity_error=1)
    seen.create("a", [10])
    seen.clock.run()
    assert seen.ends[-1][1:] == ("a", "Failed")
    assert seen.fleet.jobs["a"].reason.startswith("CapacityError")
    assert (seen.results, seen.fleet.meter.billed) == ([], 0)
    seen.create("b", *[[10.0]] * Terms().quota)


# --- the simulated launch day ---

ROUGH = Terms(
    quota=8, spot_quota=8, capacity_error=0.1, faults=0.5, interruptions=1, task_failure=0.02, burst=3
)
ODD = Work(events_lost=0.2, events_twice=0.2)


def rough(seed: int = 0, **settings: bool) -> Outcome:
    return Account(users=400, terms=ROUGH, **settings).launch_day(seed, ODD)


@pytest.mark.parametrize("spot", [True, False])
def test_day_with_faults_ends_each_request_exactly_once(spot: bool) -> None:
    # given missing capacity, broken and interrupted instances, a quota that is used up, and events that are
    # lost or sent twice
    day = rough(spot=spot)
    # then all of these faults occurred
    assert day.without_capacity
    assert day.refused
    assert day.interrupted if spot else day.broken
    # and no request was lost or repeated
    assert (day.lost, day.duplicates) == (0, 0)
    assert day.ready + day.failed == 400
    assert day.most_instances <= ROUGH.quota + ROUGH.spot_quota


def test_jobs_are_never_created_faster_than_the_pace() -> None:
    # given more instances than needed, and a spike of requests above the rate of job creation
    terms = replace(ROUGH, quota=200_000, spot_quota=200_000)
    account = Account(users=80_000, part=0.005, terms=terms)
    for one in (account, account.one_per_user):
        day = one.launch_day()
        assert day.throttled == 0
        starts, rate = np.array(day.starts), one.rate * one.part
        # in any period, at most the burst and the refilled tokens are used
        for many in (2, 10, 50):
            assert np.all(starts[many:] - starts[:-many] >= (many - PACE.burst) / rate - 1e-6)
    assert np.diff(starts).min() < 1 / rate  # and the whole burst is used


def test_simulated_day_is_reproducible_by_its_seed() -> None:
    first, again, other = rough(), rough(), rough(seed=1)
    assert replace(first, seconds=0) == replace(again, seconds=0)
    assert first.waits != other.waits


def test_packed_users_wait_less_than_with_a_job_each() -> None:
    account = Account(part=0.01)
    ours, theirs = account.launch_day(), account.one_per_user.launch_day()
    assert theirs.jobs >= theirs.users > ours.jobs
    assert ours.waits[50] < theirs.waits[50]
    assert ours.gpu_hours < theirs.gpu_hours


def test_benchmark_prints_tables_and_writes_figures_and_charts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, pictures = tmp_path / "new" / "figures.json", tmp_path / "pictures"
    arguments = ["--users", "500", "--seeds", "1", "--json", str(figures), "--pictures", str(pictures)]
    assert scale.main(arguments) == 0
    said, report = capsys.readouterr().out, json.loads(figures.read_text())
    assert report["metrics"]["lost_requests"] == report["metrics"]["duplicate_jobs"] == 0
    assert {metric.name for metric in scale.WANTED} <= report["metrics"].keys()
    assert report["onboarding"]["full"]["packed"]["users"] == 500
    assert "NOT REACHED" not in said
    assert len(list(pictures.glob("*.svg"))) == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--users", "5"], "--users must be a whole number from 100"),
        (["--seeds", "0"], "--seeds must be a whole number from 1"),
        (["--adapter-size-ratio", "0.5"], "--adapter-size-ratio must be a number from 1"),
    ],
)
def test_invalid_option_is_refused_with_one_sentence(
    wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        scale.main(wrong)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
