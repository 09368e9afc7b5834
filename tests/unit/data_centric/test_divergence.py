"""Reliability of labelers, spammers, confused classes, and the report."""

from __future__ import annotations

import json
import random
from dataclasses import asdict

import pytest

from data_centric.core.answers import Answer
from data_centric.core.consensus import dawid_skene
from data_centric.core.divergence import divergence
from data_centric.core.labelers import Reliability, pseudonym, reliability
from tests.support.data_centric.crowd import Crowd, crowd

NAMES = tuple("0123456789")


def judged(people: Crowd, each: int = 3) -> dict[str, Reliability]:
    given = people.answers(each)
    return {person.labeler: person for person in reliability(given, dawid_skene(given, 10))}


@pytest.mark.parametrize("seed", range(3))
def test_only_spammers_are_judged_as_spammers(seed: int) -> None:
    # given one labeler who answers at random, and one who always gives the same answer
    people = crowd(seed, items=600)
    found = judged(people)
    assert [name for name in found if found[name].verdict == "spammer"] == people.spammers
    assert [found[name].verdict for name in people.accuracy] == ["reliable"] * 18


def test_accuracy_is_estimated() -> None:
    people = crowd(7, items=900)
    found = judged(people, 5)
    errors = [abs(found[name].accuracy - accuracy) for name, accuracy in people.accuracy.items()]
    assert sum(errors) / len(errors) < 0.05


def test_labeler_with_few_answers_is_not_judged() -> None:
    # given a new labeler with four wrong answers
    people = crowd(1, items=300)
    given = people.answers(3)
    given += [Answer(item, "new", (true + 1) % 10) for item, true in [*people.truth.items()][:4]]
    found = {person.labeler: person for person in reliability(given, dawid_skene(given, 10))}
    assert (found["new"].verdict, found["new"].answers) == ("unknown", 4)


def test_reliability_is_unknown_for_items_of_one_class() -> None:
    given = [Answer(f"item-{number}", name, 0) for number in range(200) for name in ("a", "b", "c")]
    assert {person.verdict for person in reliability(given, dawid_skene(given, 2))} == {"unknown"}


def test_unsure_labeler_is_counted() -> None:
    given = [Answer("i", "a", None), Answer("j", "a", None), Answer("i", "b", 1)]
    first, second = reliability(given, dawid_skene(given, 2))
    assert first == Reliability("a", 0, 2, 0.0, 0.0, "unknown")
    assert (second.labeler, second.answers, second.unsure) == ("b", 1, 0)


def test_chance_agreement_is_that_of_random_orders() -> None:
    # given a labeler's answers, and 2,000 random permutations of them
    people = crowd(4, items=200, classes=3, size=6)
    given, name = people.answers(3), "labeler-03"
    estimate = dawid_skene(given, 3)
    mine = [(answer.item, answer.choice) for answer in given if answer.labeler == name]
    draw = random.Random(1)
    found = next(each for each in reliability(given, estimate) if each.labeler == name)

    def belief(item: str, choice: int | None) -> list[float]:
        assert choice is not None
        weights = [
            probability / row[choice]
            for probability, row in zip(
                estimate.items[item].probabilities, estimate.matrices[name], strict=True
            )
        ]
        return [weight / sum(weights) for weight in weights]

    beliefs = [belief(item, choice) for item, choice in mine]
    said = [choice for _, choice in mine if choice is not None]

    def agreed(order: list[int]) -> float:
        return sum(each[choice] for each, choice in zip(beliefs, order, strict=True))

    shuffled = [agreed(draw.sample(said, len(said))) for _ in range(2000)]
    mean = sum(shuffled) / len(shuffled)
    deviation = (sum((each - mean) ** 2 for each in shuffled) / len(shuffled)) ** 0.5
    assert found.above_chance == pytest.approx((agreed(said) - mean) / deviation, rel=0.08)


def test_classes_that_all_confuse_are_flagged() -> None:
    people = crowd(2, items=900, confused=(4, 9))
    given = people.answers(3)
    report = divergence(given, dawid_skene(given, 10), NAMES, {item: item for item in people.truth}, 0)
    assert [pair.classes for pair in report.ambiguous] == [("4", "9")]
    assert report.ambiguous[0].rate > 3 * report.ambiguous[0].usual


def test_classes_that_one_labeler_confuses_are_not() -> None:
    # given five labelers, of whom four make no errors and one always answers 1 for class 0
    given = [
        Answer(f"item-{number:03}", f"labeler-{each}", 1 if each == 0 and number % 4 == 0 else number % 4)
        for number in range(200)
        for each in range(5)
    ]
    report = divergence(given, dawid_skene(given, 4), NAMES[:4], {each.item: "" for each in given}, 0)
    assert report.ambiguous == []


def test_labels_without_errors_flag_nothing() -> None:
    given = [Answer(f"item-{number}", name, number % 2) for number in range(50) for name in "abc"]
    report = divergence(given, dawid_skene(given, 2), ("no", "yes"), {each.item: "" for each in given}, 5)
    assert (report.ambiguous, report.disputed, report.agreement, report.alpha) == ([], [], 1.0, 1.0)


def test_alpha_is_that_of_the_published_example() -> None:
    # The example with four observers and missing values in K. Krippendorff, Computing Krippendorff's
    # Alpha-Reliability (2011)
    table = ("123321412---", "1233224125-3", "-3332342251-", "12332441251-")
    given = [
        Answer(f"unit-{number}", f"observer-{observer}", None if each == "-" else int(each))
        for observer, row in enumerate(table)
        for number, each in enumerate(row)
    ]
    report = divergence(given, dawid_skene(given, 6), NAMES[:6], {each.item: "" for each in given}, 0)
    assert report.alpha == pytest.approx(0.743, abs=0.0005)


def test_report_names_the_most_disputed_items() -> None:
    given = [Answer(f"item-{number:02}", name, number % 3) for number in range(30) for name in "abc"]
    given += [Answer("split", "a", 0), Answer("split", "b", 1), Answer("split", "c", 2)]
    given += [Answer("most", "a", 0), Answer("most", "b", 0), Answer("most", "c", 1)]
    given += [Answer("blank", "a", None)]
    sources = {answer.item: f"s3://pictures/{answer.item}.png" for answer in given}
    report = divergence(given, dawid_skene(given, 3), ("cat", "dog", "owl"), sources, 5)
    assert [each.source for each in report.disputed] == ["s3://pictures/split.png", "s3://pictures/most.png"]
    assert report.disputed[1].votes == {"cat": 2, "dog": 1}
    assert (report.items, report.unlabeled, report.answers, report.unsure) == (32, 1, 97, 1)
    assert sum(each.items for each in report.classes) == 32
    assert report.agreement == pytest.approx((30 * 6 + 2) / (32 * 6))
    assert len(divergence(given, dawid_skene(given, 3), ("cat", "dog", "owl"), sources, 1).disputed) == 1
    json.dumps(asdict(report), allow_nan=False)


def test_pseudonyms_do_not_reveal_the_identity() -> None:
    names = [pseudonym(identity, key) for identity in ("ann@example.com", "bob") for key in (b"1", b"2")]
    assert len(set(names)) == 4
    assert pseudonym("bob", b"2") == names[-1]
    assert all(name.startswith("labeler-") and len(name) == 20 for name in names)
    assert not any(identity in name for name in names for identity in ("ann", "bob"))
