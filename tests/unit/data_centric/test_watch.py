"""Watching a run: requests for additional labels, the end of the run, and the pauses between checks."""

from __future__ import annotations

from data_centric.core.watch import MOST_CHECKS, pause, watch
from tests.support.data_centric.desks import World, with_settings


def finish(world: World, *names: str, choice: int = 0) -> None:
    for name in names:
        while item := world.next(name):
            world.submit(name, item, choice)


def test_run_is_closed_when_it_is_complete() -> None:
    world = World(3)
    found = watch(world.desk, 1)
    assert (found.closed, found.complete, found.open, found.disputed) == (False, False, 3, None)
    finish(world, "ann", "bob")
    found = watch(world.desk, 1)
    assert (found.closed, found.complete, found.open, found.oldest, found.disputed) == (True, True, 0, 0, 0)
    # and a repeated check has the same result
    assert watch(world.desk, 1) == found


def test_disagreement_gets_more_labels_before_the_end() -> None:
    world = World(2, with_settings(extra_labels=1, least_confidence=0.95))
    finish(world, "ann", choice=0)
    finish(world, "bob", choice=1)
    found = watch(world.desk, 1)
    assert (found.closed, found.asked, found.open, found.disputed) == (False, 1, 1, 2)
    finish(world, "eve", choice=1)
    found = watch(world.desk, 1)
    assert (found.closed, found.asked, found.disputed) == (True, 0, 2)


def test_run_is_closed_when_its_time_is_over() -> None:
    world = World(2)
    finish(world, "ann")
    world.time += 3599
    assert not watch(world.desk, 1).closed
    world.time += 1
    found = watch(world.desk, 1)
    assert (found.closed, found.complete, found.open, found.oldest) == (True, False, 2, 3600)


def test_lagging_index_does_not_end_a_run() -> None:
    world = World(1, with_settings(labels=1))
    world.table.incomplete = lambda run: 0  # type: ignore[method-assign]
    found = watch(world.desk, 1)
    assert (found.closed, found.open) == (False, 1)


def test_pauses_grow_with_the_runs_duration() -> None:
    assert [pause(seconds, 336) for seconds in (0, 100, 1000, 100_000)] == [5, 5, 50, 807]
    assert pause(10_000, 1) == 5


def test_checks_stay_below_the_limit_of_an_execution() -> None:
    for hours in (1, 24, 336, 4000):
        elapsed = checks = 0
        while elapsed < 3600 * hours:
            elapsed, checks = elapsed + pause(elapsed, hours), checks + 1
        # each check adds 9 events to the execution's history, whose limit of 25,000 events includes those of
        # retries
        assert checks <= MOST_CHECKS + 200
