"""Splits of MNIST, wrong labels and rare classes."""

from __future__ import annotations

import pytest
import torch

from benchmarks.data_centric import mnist
from subset_training.data import Examples


@pytest.fixture(scope="module")
def pictures() -> Examples:
    """Return 5,000 examples, 500 of each class. The pixels of an example encode its number."""
    numbers = torch.arange(5000)
    bytes_ = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8)
    return Examples(bytes_.view(-1, 1, 1, 2), numbers % 10)


def numbers(examples: Examples) -> set[int]:
    pairs = examples.images.view(-1, 2).tolist()
    return {256 * high + low for high, low in pairs}


def test_splits_are_disjoint_and_stratified(pictures: Examples) -> None:
    # given
    splits = [mnist.reported(pictures), mnist.development(pictures, 0)]
    for data, sizes in zip(splits, [(3500, 500, 1000), (2500, 500, 1000)], strict=True):
        parts = (data.train, data.validation, data.test)
        # then
        assert tuple(len(part) for part in parts) == sizes
        assert len(set.union(*map(numbers, parts))) == sum(sizes)
        for part in parts:
            assert len(set(torch.bincount(part.labels).tolist())) == 1


def test_development_never_sees_the_reported_test_set(pictures: Examples) -> None:
    # given
    test = numbers(mnist.reported(pictures).test)
    seen = [mnist.development(pictures, seed) for seed in range(3)]
    # then
    assert all(
        not test & (numbers(data.train) | numbers(data.validation) | numbers(data.test)) for data in seen
    )
    assert len({frozenset(numbers(data.test)) for data in seen}) == 3


def test_wrong_labels_are_a_fifth_of_the_training_labels_only(pictures: Examples) -> None:
    # given
    clean = mnist.reported(pictures)
    # when
    data = mnist.conditioned(clean, mnist.WRONG_LABELS, 3)
    # then
    wrong = data.train.labels != clean.train.labels
    assert int(wrong.sum()) == 700
    assert torch.bincount(data.train.labels[wrong], minlength=10).min() > 40
    assert torch.equal(data.train.images, clean.train.images)
    assert torch.equal(data.validation.labels, clean.validation.labels)


def test_five_classes_have_a_tenth_of_their_training_examples(pictures: Examples) -> None:
    # given
    clean = mnist.reported(pictures)
    # when
    data, other = (mnist.conditioned(clean, mnist.RARE_CLASSES, seed) for seed in (3, 4))
    # then
    counts = torch.bincount(data.train.labels)
    assert sorted(counts.tolist()) == [35] * 5 + [350] * 5
    assert numbers(data.train) < numbers(clean.train)
    assert torch.bincount(data.validation.labels).tolist() == [50] * 10
    assert not torch.equal(counts, torch.bincount(other.train.labels))
