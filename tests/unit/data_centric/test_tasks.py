"""Tasks: assignment, leases, gold questions, additional labels, and what labelers can see."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from data_centric.core import workflow
from data_centric.core.runs import Rates, RunSettings, cost
from data_centric.core.tasks import LabelerRow, TaskRow
from data_centric.core.workflow import BlockedError, NoRunError, NoTaskError, Progress, RunConflictError
from tests.support.data_centric.desks import RUN, World, entries, with_settings

PEOPLE = [f"labeler-{number}" for number in range(6)]


def all_done(world: World, names: list[str], choice: int | None = 0) -> list[int]:
    """Let each labeler do all available tasks; return how many each labeler did."""
    done = []
    for name in names:
        count = 0
        while item := world.next(name):
            world.submit(name, item, choice)
            count += 1
        done.append(count)
    return done


def test_each_item_goes_to_the_configured_number_of_labelers() -> None:
    world = World(10, with_settings(labels=3, most_labels=3))
    done = all_done(world, PEOPLE)
    assert done == [10, 10, 10, 0, 0, 0]
    assert all(len(task.answers) == 3 for task in world.tasks)
    assert world.again == []


def test_items_with_fewer_labels_come_first() -> None:
    # when labelers have done 36 tasks of a run with 60 items
    world = World(60)
    for name in ("a", "b", "c"):
        for _ in range(12):
            item = world.next(name)
            assert item
            world.submit(name, item)
    # then no item has two labels yet
    assert sorted({len(task.answers) for task in world.tasks}) == [0, 1]


def test_labelers_do_not_all_try_the_same_item() -> None:
    world = World(25)
    assert len({world.next(name) for name in PEOPLE}) > 3


def test_task_in_hand_is_given_again() -> None:
    world = World(5)
    first = workflow.next_task(world.desk, "a")
    assert first == workflow.next_task(world.desk, "a")
    assert world.labeler("a").given == 1


def test_ended_lease_goes_to_another_labeler() -> None:
    # given an item whose labeler does not answer
    world = World(1, with_settings(labels=1))
    assert world.next("a") == world.item
    assert world.next("b") is None
    # when the lease has ended and another labeler has the task
    world.pass_time()
    assert world.next("b") == world.item
    # then the late answer is refused, and the answer of the other labeler is kept
    with pytest.raises(NoTaskError, match="has no lease"):
        world.submit("a", world.item)
    assert world.submit("b", world.item, 1) == "kept"
    assert world.tasks[0].answers == {"b": 1}


def test_late_answer_is_kept_when_the_task_is_not_leased() -> None:
    world = World(1)
    world.next("a")
    world.pass_time()
    assert world.submit("a", world.item, 2) == "kept"


def test_labeler_whose_lease_ended_may_get_the_task_again() -> None:
    world = World(1, with_settings(labels=1))
    world.next("a")
    world.pass_time()
    assert world.next("a") == world.item
    assert world.next("b") is None


def test_lease_lasts_as_long_as_set() -> None:
    world = World(1)
    found = workflow.next_task(world.desk, "a")
    assert found
    assert found.until == world.time + RUN.lease_seconds


def test_first_answer_is_not_replaced() -> None:
    world = World(1)
    world.next("a")
    assert [world.submit("a", world.item, choice) for choice in (1, 2)] == ["kept", "already"]
    assert world.tasks[0].answers == {"a": 1}
    assert (world.labeler("a").done, world.labeler("a").holds) == (1, "")


def test_task_of_others_cannot_be_answered() -> None:
    world = World(1)
    world.next("a")
    for name, item in (("b", world.item), ("a", "no such item")):
        with pytest.raises(NoTaskError):
            world.submit(name, item)


@pytest.mark.parametrize("choice", [-1, 3, True, "1", 1.0])
def test_choice_that_is_no_class_is_refused(choice: int) -> None:
    world = World(1)
    world.next("a")
    with pytest.raises(ValueError, match="the choice must be from 0 to 2, or None"):
        world.submit("a", world.item, choice)


def test_labeler_sees_nothing_of_others() -> None:
    world = World(1)
    world.next("a")
    world.submit("a", world.item, 2)
    found = workflow.next_task(world.desk, "b")
    assert found
    assert set(asdict(found)) == {"item", "source_field", "source", "until", "review"}


GOLD = with_settings(labels=1, gold_every=3, gold_least=4)


def with_gold(run: RunSettings = GOLD, items: int = 60) -> World:
    world = World(0, with_settings(name="other"))
    world.run, world.desk = run, replace(world.desk, run=run)
    world.entries, gold = entries(items), entries(20, "gold")
    workflow.load(world.desk, world.entries, gold, {each.item: 1 for each in gold})
    return world


def test_gold_questions_are_mixed_in() -> None:
    world = with_gold()
    all_done(world, ["a"], 1)
    me = world.labeler("a")
    assert me.done == 60
    assert 10 <= me.gold <= 20
    assert me.right == me.gold
    assert workflow.progress(world.desk) == Progress(60, 60, 60, 0, 0, 1, 0)


def test_gold_questions_look_like_other_tasks() -> None:
    # given the tasks that two labelers get
    world = with_gold()
    truths = {task.item for task in world.tasks if task.gold}
    places = []
    for name in ("a", "b"):
        given = []
        for _ in range(30):
            found = workflow.next_task(world.desk, name)
            assert found
            world.submit(name, found.item, 1)
            given.append(found.item in truths)
        places.append(given)
    # then the two labelers get gold questions at different positions, and neither gets an item twice
    assert places[0] != places[1]
    assert world.double_labels == 0


def test_labeler_who_fails_gold_questions_is_blocked() -> None:
    world = with_gold()
    with pytest.raises(BlockedError, match="gold questions are wrong: 0 of 4 are right"):
        all_done(world, ["a"], 0)
    assert workflow.progress(world.desk).blocked == 1
    all_done(world, ["b"], 1)
    assert workflow.progress(world.desk).complete == 60


def test_unsure_answer_to_a_gold_question_is_no_error() -> None:
    world = with_gold()
    all_done(world, ["a"], None)
    assert any(task.gold and task.answers for task in world.tasks)
    assert (world.labeler("a").gold, world.labeler("a").unsure) == (0, 60)


def test_gold_answers_are_known_to_the_estimate() -> None:
    world = with_gold()
    with pytest.raises(BlockedError):
        all_done(world, ["a"], 0)
    found = workflow.estimated(world.run, world.tasks)
    gold = [task.item for task in world.tasks if task.gold and task.answers]
    assert {found.items[item].choice for item in gold} == {1}


def test_more_labels_go_to_the_least_confident_items() -> None:
    # given an item on which two labelers disagree, an item about which both are unsure, and three on which
    # they agree
    world = World(5, with_settings(extra_labels=10, least_confidence=0.6))
    disputed, unsure = (entry.item for entry in world.entries[:2])
    for number, name in enumerate(("a", "b")):
        while item := world.next(name):
            world.submit(name, item, number if item == disputed else None if item == unsure else 2)
    # when
    assert workflow.ask_for_more(world.desk) == 2
    # then other labelers get the first two items, and no more labels are requested while these tasks are open
    assert {task.item for task in world.tasks if not task.complete} == {disputed, unsure}
    assert workflow.ask_for_more(world.desk) == 0
    assert all_done(world, ["a", "b", "c"], 1) == [0, 0, 2]
    assert workflow.progress(world.desk).extra == 2


def test_budget_goes_to_the_least_confident_first() -> None:
    world = World(5, with_settings(extra_labels=1))
    unsure = world.entries[3].item
    for number, name in enumerate(("a", "b")):
        while item := world.next(name):
            world.submit(name, item, None if item == unsure else number)
    assert workflow.ask_for_more(world.desk) == 1
    assert [task.item for task in world.tasks if task.wanted == 3] == [unsure]
    assert workflow.ask_for_more(world.desk) == 0


def test_no_item_gets_more_labels_than_the_most() -> None:
    world = World(1, with_settings(extra_labels=10))
    for number in range(6):
        all_done(world, [f"labeler-{number}"], number % 3)
        workflow.ask_for_more(world.desk)
    assert len(world.tasks[0].answers) == RUN.most_labels
    assert workflow.progress(world.desk).extra == 2


def test_run_loaded_again_is_unchanged() -> None:
    world = World(3)
    world.next("a")
    workflow.load(world.desk, world.entries[::-1])
    assert sum(len(task.leases) for task in world.tasks) == 1


@pytest.mark.parametrize("change", [{"labels": 3}, {"classes": ("cat", "dog")}, {"least_confidence": 0.5}])
def test_other_run_of_the_same_name_is_refused(change: dict) -> None:
    world = World(3)
    for desk, items in ((replace(world.desk, run=with_settings(**change)), 3), (world.desk, 4)):
        with pytest.raises(RunConflictError, match="run animals exists already"):
            workflow.load(desk, entries(items))


def test_run_is_closed_until_it_is_loaded() -> None:
    world = World(1)
    with pytest.raises(NoRunError, match="no open run other"):
        workflow.next_task(replace(world.desk, run=with_settings(name="other")), "a")


def test_run_that_is_loading_gives_no_tasks() -> None:
    # given a run whose loading was killed after its first tasks
    world = World(0, with_settings(name="other"))
    desk, items = replace(world.desk, run=RUN), entries(30)
    workflow.begin(desk, items, (), {})
    workflow.add_tasks(desk, workflow.tasks_of(RUN, items[:25], {}))
    # when labelers request tasks, then they are refused, and nothing is leased
    with pytest.raises(NoRunError, match="no open run animals"):
        workflow.next_task(desk, "a")
    with pytest.raises(NoRunError):
        workflow.submit(desk, "a", items[0].item, 1)
    with pytest.raises(NoRunError, match="still loading"):
        workflow.progress(desk)
    assert [*world.table.open_runs()] == ["other"]
    assert not any(task.leases for task in world.table.tasks("animals"))
    # when the run is loaded again, then it is open with all tasks
    workflow.load(desk, items)
    assert workflow.next_task(desk, "a")
    assert workflow.progress(desk).items == 30


def test_closed_run_refuses_answers() -> None:
    world = World(2)
    done, held = world.next("a"), None
    assert done
    world.submit("a", done, 1)
    held = world.next("a")
    assert held
    first = workflow.close_run(world.desk)
    world.pass_time()
    assert workflow.close_run(world.desk) == first
    for refused in (lambda: world.next("a"), lambda: world.submit("a", held, 1)):
        with pytest.raises(NoRunError):
            refused()
    # an answer that was stored before the run closed is acknowledged when it is repeated
    assert world.submit("a", done, 1) == "already"
    assert (workflow.progress(world.desk).answers, [*world.table.open_runs()]) == (1, [])


def test_run_keeps_its_settings() -> None:
    run = with_settings(kind="review", instructions="Look twice.", group="experts")
    world = World(1, run)
    row = world.table.run("animals")
    assert row
    assert RunSettings.from_json(row.settings) == run


def test_answers_to_gold_questions_count_as_submitted() -> None:
    # If answers to gold questions were not counted, labelers would recognize gold questions by the count
    world = with_gold()
    for number in range(1, 30):
        item = world.next("a")
        assert item
        world.submit("a", item, None if number % 2 else 1)
        assert world.labeler("a").submitted == number


def test_more_than_one_write_of_tasks_is_loaded() -> None:
    assert len(World(250).tasks) == 250


def test_wrong_gold_questions_are_named_by_their_line() -> None:
    world = World(0, with_settings(name="other"))
    gold = entries(2)
    known = {gold[0].item: 1, gold[1].item: 1}
    with pytest.raises(ValueError, match="line 3 must not be a gold question too"):
        workflow.load(world.desk, [*entries(2, "more"), replace(gold[0], line=3)], gold, known)
    with pytest.raises(ValueError, match="gold questions: line 2 must have one of the run's classes"):
        workflow.load(world.desk, [], gold, known | {gold[1].item: 3})
    with pytest.raises(ValueError, match="gold_every must be 0 without gold questions"):
        workflow.load(replace(world.desk, run=GOLD), entries(1))


def task(**changes: object) -> TaskRow:
    return replace(TaskRow("r", "i", "source", "x", 2), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({}, 0),
        ({"answers": {"a": 1}}, 1),
        ({"leases": {"a": 50}}, 1),
        ({"leases": {"a": 70, "b": 60}}, 60),
        ({"answers": {"a": None}, "leases": {"b": 60}}, 60),
        ({"answers": {"a": 1, "b": 2}}, None),
        ({"truth": 1, "answers": {"a": 1, "b": 2}, "leases": {"c": 60}}, 0),
    ],
)
def test_task_is_due_when_another_labeler_may_have_it(changes: dict, due: int | None) -> None:
    assert task(**changes).due == due


def test_new_lease_replaces_the_one_that_ended_first() -> None:
    full = task(leases={"a": 70, "b": 60})
    assert full.leased("c", 59, 99) is None
    given = full.leased("c", 80, 140)
    assert given
    assert (given.leases, given.version) == ({"a": 70, "c": 140}, 2)


def test_labeler_is_judged_after_enough_gold_questions() -> None:
    run = with_settings(gold_least=3, gold_share=0.6)
    judged = [
        LabelerRow("r", "a", gold=gold, right=right).blocked(run) for gold, right in ((2, 0), (3, 1), (5, 3))
    ]
    assert judged == [False, True, False]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": ""}, "name must have 1 to 63 letters"),
        ({"name": "a/b"}, "name must have 1 to 63 letters"),
        ({"kind": "other"}, "kind must be one of label, review, got 'other'"),
        ({"instructions": 3}, "instructions must be a text, got 3"),
        ({"instructions": "x" * 20_001}, "instructions must have at most 20000 characters, got 20001"),
        ({"classes": tuple(str(number) for number in range(51))}, "classes must be at most 50 names"),
        ({"least_confidence": "high"}, "least_confidence must be a number from 0 to 1, got high"),
        ({"attribute": "a-ref"}, "not end with -metadata or -ref"),
        ({"classes": ("cat",)}, "classes must be two or more different names, got cat"),
        ({"classes": ("cat", "cat")}, "two or more different names"),
        ({"labels": 0}, "labels must be a whole number from 1 to 9, got 0"),
        ({"labels": 2.0}, "labels must be a whole number"),
        ({"most_labels": 1}, "most_labels must be a whole number from 2 to 9, got 1"),
        ({"extra_labels": -1}, "extra_labels must be a whole number from 0, got -1"),
        ({"least_confidence": 1.1}, "least_confidence must be a number from 0 to 1"),
        ({"lease_seconds": 29}, "lease_seconds must be a whole number from 30"),
        ({"gold_every": 1}, "gold_every must be a whole number from 2"),
        ({"gold_least": 0}, "gold_least must be a whole number from 1"),
        ({"gold_share": -0.1}, "gold_share must be a number from 0 to 1"),
    ],
)
def test_invalid_setting_is_named(change: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        with_settings(**change)


def test_cost_is_known_before_the_run() -> None:
    # given 100 items with 2 labels each, at most 30 additional labels, and one gold question in five tasks
    run = with_settings(extra_labels=30, gold_every=5)
    least, most = cost(run, 100, Rates(seconds=9, wage=20, requests=0.001))
    assert (least.answers, most.answers) == (250, 288)
    assert (least.hours, least.wages, least.requests) == (0.625, 12.5, 0.25)
    assert least.total == 12.75
    # and each item has at most its maximum number of labels
    assert cost(with_settings(extra_labels=999), 10, Rates(9, 20, 0))[1].answers == 40
    with pytest.raises(ValueError, match="wage must be a finite number from 0, got -1"):
        cost(run, 1, Rates(9, -1, 0))
