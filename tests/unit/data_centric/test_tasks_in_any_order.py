"""No task is lost and no label counts twice, in any order of calls, with labelers killed after any write.

All orders of two workers' calls are run, and random orders of the longer scripts of four labelers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import pytest

from data_centric.core import workflow
from data_centric.core.workflow import BusyError, NoRunError, NoTaskError
from tests.support.data_centric.desks import World, with_settings
from tests.support.data_centric.orders import Case, Work, every_kill, every_order, failures
from tests.support.turns import Killed, Turns

ONE_LABEL = with_settings(labels=1)
PEOPLE = ("ann", "bob", "cat", "dan")


def cases(
    make: Callable[[], World], works: Callable[[World], Sequence[Work]], writes: int = 1
) -> Iterator[Case[World]]:
    """Yield all orders of the workers' calls, each order also with each worker killed after each of its
    writes.

    :param writes: number of writes of a worker after which it can be killed
    """

    def made() -> tuple[World, Turns, Sequence[Work]]:
        world = make()
        return world, world.turns, works(world)

    for kills in every_kill(len(works(make())), writes):
        yield from every_order(made, kills)


def finished(found: Iterator[Case[World]], least: int) -> None:
    """Let all labelers finish each case. Check that no work is lost or duplicate, and that there are at least
    `least` cases."""
    count = lost = double = 0
    for case in found:
        case.world.finish(PEOPLE)
        count += 1
        lost += case.world.lost_tasks
        double += case.world.double_labels
    assert (lost, double) == (0, 0)
    assert count >= least


@pytest.mark.parametrize("stale", [False, True])
def test_last_free_label_is_assigned_to_one_labeler(stale: bool) -> None:
    def checked() -> Iterator[Case[World]]:
        works = lambda world: [lambda: world.next("ann"), lambda: world.next("bob")]  # noqa: E731
        for case in cases(lambda: World(1, ONE_LABEL, stale), works):
            assert not failures(case.results)
            assert len(case.world.tasks[0].leases) == 1
            assert sum(result == case.world.item for result in case.results) <= 1
            yield case

    finished(checked(), 1000)


def test_labeler_with_two_windows_has_one_task() -> None:
    def checked() -> Iterator[Case[World]]:
        works = lambda world: [lambda: world.next("ann"), lambda: world.next("ann")]  # noqa: E731
        for case in cases(lambda: World(3), works):
            assert not failures(case.results)
            assert [len(task.leases) for task in case.world.tasks].count(1) == 1
            assert len({result for result in case.results if isinstance(result, str)}) <= 1
            yield case

    finished(checked(), 1000)


def test_lease_and_labeler_change_together() -> None:
    def checked() -> Iterator[Case[World]]:
        works = lambda world: [lambda: world.next("ann")]  # noqa: E731
        for case in cases(lambda: World(3), works):
            leased = [task.item for task in case.world.tasks if "ann" in task.leases]
            labeler = case.world.labeler("ann")
            # This holds also if the worker was killed after its first write
            assert [labeler.holds] == leased
            assert labeler.given == 1
            yield case

    finished(checked(), 2)


def test_answer_submitted_twice_counts_once() -> None:
    def submitting() -> World:
        world = World(1)
        assert world.next("ann")
        return world

    def checked() -> Iterator[Case[World]]:
        works = lambda world: [  # noqa: E731
            lambda: world.submit("ann", world.item, 1),
            lambda: world.submit("ann", world.item, 2),
        ]
        for case in cases(submitting, works):
            assert not failures(case.results)
            assert list(case.results).count("kept") <= 1
            assert case.world.labeler("ann").done == 1
            yield case

    finished(checked(), 80)


def late() -> World:
    """Return a world with one task, whose lease to the labeler `ann` has expired."""
    world = World(1, ONE_LABEL)
    assert world.next("ann")
    world.pass_time()
    return world


def test_late_answer_is_kept_or_the_task_was_leased_again() -> None:
    def checked() -> Iterator[Case[World]]:
        works = lambda world: [lambda: world.submit("ann", world.item), lambda: world.next("bob")]  # noqa: E731
        for case in cases(late, works):
            answer, given = case.results
            refused = [isinstance(each, NoTaskError) for each in failures(case.results)]
            assert all(refused)
            if answer == "kept":
                assert not isinstance(given, str)
            elif refused:
                assert given == case.world.item or isinstance(given, Killed)
            yield case

    finished(checked(), 200)


def test_late_answer_twice_while_another_asks() -> None:
    # 500 random orders, because the calls of three workers have 9,240 possible orders
    for seed in range(500):
        world, draw = late(), random.Random(seed)
        works = [
            lambda world=world: world.submit("ann", world.item, 1),
            lambda world=world: world.submit("ann", world.item, 2),
            lambda world=world: world.next("bob"),
        ]
        results = world.turns.run(works, [draw.randrange(3) for _ in range(14)])
        assert all(isinstance(each, NoTaskError) for each in failures(results))
        assert (results[:2].count("kept"), results[2]) in [(1, None), (0, world.item)]
        world.finish(PEOPLE)
        assert (world.lost_tasks, world.double_labels) == (0, 0)


def test_two_labelers_answer_one_item_at_once() -> None:
    def submitting() -> World:
        world = World(1)
        assert world.next("ann")
        assert world.next("bob")
        return world

    def checked() -> Iterator[Case[World]]:
        works = lambda world: [  # noqa: E731
            lambda: world.submit("ann", world.item, 1),
            lambda: world.submit("bob", world.item, None),
        ]
        for case in cases(submitting, works):
            assert not failures(case.results)
            assert case.world.tasks[0].answers == {"ann": 1, "bob": None}
            yield case

    finished(checked(), 80)


def test_answer_while_a_run_closes_is_stored_or_refused() -> None:
    def answering() -> World:
        world = World(1)
        assert world.next("ann")
        return world

    count = 0
    works = lambda world: [  # noqa: E731
        lambda: world.submit("ann", world.item, 1),
        lambda: workflow.close_run(world.desk),
    ]
    for case in cases(answering, works):
        world, answer = case.world, case.results[0]
        assert all(isinstance(each, NoRunError) for each in failures(case.results))
        stored = world.tasks[0].answers == {"ann": 1}
        if not isinstance(answer, Killed):
            assert stored == (answer == "kept")
        assert world.labeler("ann").done == stored
        count += 1
    assert count >= 20


def disputed() -> World:
    """Return a world with two items whose labelers disagree, and a budget for one more label."""
    world = World(2, with_settings(extra_labels=1))
    for number, name in enumerate(("ann", "bob")):
        while item := world.next(name):
            world.submit(name, item, number)
    return world


def test_budget_is_not_exceeded_by_two_at_once() -> None:
    def checked() -> Iterator[Case[World]]:
        works = lambda world: [  # noqa: E731
            lambda: workflow.ask_for_more(world.desk),
            lambda: workflow.ask_for_more(world.desk),
        ]
        for case in cases(disputed, works):
            assert not failures(case.results)
            assert sum(task.wanted - case.world.run.labels for task in case.world.tasks) == 1
            assert workflow.progress(case.world.desk).extra == 1
            yield case

    finished(checked(), 180)


def test_more_labels_are_requested_while_others_answer() -> None:
    def nearly() -> World:
        world = World(1, with_settings(extra_labels=1))
        item = world.next("ann")
        assert item
        world.submit("ann", item, 0)
        assert world.next("bob")
        return world

    def checked() -> Iterator[Case[World]]:
        works = lambda world: [  # noqa: E731
            lambda: workflow.ask_for_more(world.desk),
            lambda: world.submit("bob", world.item, 1),
        ]
        for case in cases(nearly, works):
            assert not failures(case.results)
            extra = workflow.progress(case.world.desk).extra
            assert sum(task.wanted - case.world.run.labels for task in case.world.tasks) == extra
            yield case

    finished(checked(), 16)


def test_run_loaded_by_two_at_once_has_each_task_once() -> None:
    def empty() -> World:
        world = World(2)
        world.table.rows.clear()
        return world

    def checked() -> Iterator[Case[World]]:
        works = lambda world: [lambda: workflow.load(world.desk, world.entries)] * 2  # noqa: E731
        for case in cases(empty, works, writes=3):
            assert not failures(case.results)
            workflow.load(case.world.desk, case.world.entries)
            assert len(case.world.tasks) == 2
            yield case

    finished(checked(), 400)


def script(world: World, name: str, draw: random.Random) -> Work:
    """A labeler who randomly stops working, submits twice, answers late, or changes the answer."""
    steps = [draw.choices(["work", "twice", "vanish", "late", "more"], [6, 2, 2, 2, 1])[0] for _ in range(4)]
    choices = [draw.choice([0, 1, 2, None]) for _ in steps]

    def run() -> None:
        for step, choice in zip(steps, choices, strict=True):
            if step == "more":
                workflow.ask_for_more(world.desk)
                continue
            item = world.next(name)
            if step in ("vanish", "late"):
                world.pass_time()
            if item is None or step == "vanish":
                continue
            try:
                world.submit(name, item, choice)
                if step == "twice":
                    assert world.submit(name, item, 0) == "already"
            except NoTaskError:
                assert step != "work" or world.time > 1_000_000

    return run


def test_no_task_is_lost_in_long_random_runs() -> None:
    runs, lost, double = 400, 0, 0
    for seed in range(runs):
        # given four labelers and six items, a stale index, and lost responses
        draw = random.Random(seed)
        settings = with_settings(labels=draw.choice([1, 2, 3]), extra_labels=draw.choice([0, 2]))
        world = World(6, settings, draw.random() < 0.5, random.Random(seed) if draw.random() < 0.5 else None)
        # when
        kills = [(draw.randrange(4), draw.randint(1, 6)) for _ in range(draw.choice([0, 1, 2]))]
        schedule = [draw.randrange(4) for _ in range(400)]
        results = world.turns.run([script(world, name, draw) for name in PEOPLE], schedule, kills)
        world.finish([*PEOPLE, "eve", "fay"])
        # then
        assert not [each for each in failures(results) if not isinstance(each, BusyError)]
        lost += world.lost_tasks
        double += world.double_labels
        assert sum(task.wanted - settings.labels for task in world.tasks) <= settings.extra_labels
    assert (lost, double) == (0, 0)
