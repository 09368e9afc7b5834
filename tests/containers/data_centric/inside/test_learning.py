"""The training loop: example weights, reuse of forward passes, resumption, and learning."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from runs_on_hosts import examples

from subset_training import models
from subset_training.data import Data
from subset_training.gradients import total
from subset_training.learner import Learner
from subset_training.loader import Loader, Shifts, augmented, statistics
from subset_training.selection import Selection, random_numbers
from subset_training.settings import Settings
from toolkit.failure import FatalError

CPU = torch.device("cpu")
CLASSES = ("left", "middle", "right")
QUICK = Settings(strategy="glister", fraction=0.3, epochs=6, interval=3, batch_size=8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(examples(60, 0), examples(30, 1), None, CLASSES, ())


def run(settings: Settings, data: Data, epochs: int) -> Learner:
    return advanced(Learner(settings, data, 0, CPU), epochs)


def advanced(learner: Learner, epochs: int) -> Learner:
    for _ in range(epochs):
        learner.epoch()
    return learner


def through_a_file(state: Any) -> Any:
    content = io.BytesIO()
    torch.save(state, content)
    content.seek(0)
    return torch.load(content, weights_only=True)


def told(learner: Learner) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.endswith("seconds")} for row in learner.rows
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"outputs": "recorded"},
        {"strategy": "adaptive_random", "augment": True},
        {"strategy": "infobatch", "fraction": 1.0},
        {"strategy": "gradmatch_pb", "match_batch": 4},
        {"strategy": "milo", "validation_sample": 5},
    ],
)
def test_resumed_run_equals_one_that_was_never_stopped(changed: dict[str, Any], data: Data) -> None:
    # given a run that is stopped between two selections
    settings = replace(QUICK, **changed)
    whole = run(settings, data, 6)
    first = run(settings, data, 4)
    # when a new learner resumes the run from its saved state
    resumed = Learner(settings, data, 0, CPU)
    resumed.load_state_dict(through_a_file(first.state_dict()))
    advanced(resumed, 2)
    # then its weights and its rows of results are those of the uninterrupted run
    assert resumed.done
    assert told(resumed) == told(whole)
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_seeds_give_different_runs_and_the_same_again(data: Data) -> None:
    first, again = (run(QUICK, data, 1) for _ in range(2))
    other = Learner(QUICK, data, 1, CPU)
    other.epoch()
    assert told(first) == told(again)
    assert told(first)[0]["train_loss"] != told(other)[0]["train_loss"]


@pytest.mark.parametrize(("strategy", "first"), [("glister", 2), ("glister_published", 0)])
def test_selection_passes_over_the_training_set_once_an_interval(
    strategy: str, first: int, data: Data
) -> None:
    settings = replace(QUICK, strategy=strategy, interval=2)
    fresh, recorded = (run(replace(settings, outputs=outputs), data, 6) for outputs in ("fresh", "recorded"))
    assert [row["selection_forwards"] for row in fresh.rows] == [
        60 if epoch >= first and epoch % 2 == 0 else 0 for epoch in range(6)
    ]
    # the first selection, in epoch 2, computes only the 24 outputs that two epochs with 18 of 60 examples did
    # not record; later selections find all outputs recorded
    missing = [row["selection_forwards"] for row in recorded.rows]
    assert missing == ([0, 0, 24, 0, 0, 0] if first else [60, 0, 0, 0, 0, 0])
    assert [row["examples"] for row in fresh.rows] == [18] * 6
    for kind in ("seconds", "cpu_seconds"):
        assert all(row[f"training_{kind}"] > 0 for row in fresh.rows)
        selecting = [row[f"selection_{kind}"] for row in fresh.rows]
        assert min(selecting[2], selecting[4]) > 0


def test_recorded_outputs_are_those_of_the_last_training_step(data: Data) -> None:
    # given one training step on all examples, and the outputs of the model before this step
    settings = replace(QUICK, strategy="full", fraction=1.0, outputs="recorded", batch_size=60)
    learner = Learner(settings, data, 0, CPU)
    before = Learner(settings, data, 0, CPU)
    images = torch.cat([batch.images for batch in before.loaders["train"].all()])
    logits, features = before.model.both(images)
    # when
    learner.epoch()
    # then
    torch.testing.assert_close(learner.records.logits, logits)
    torch.testing.assert_close(learner.records.features, features)
    expected = torch.nn.functional.cross_entropy(logits, data.train.labels, reduction="none")
    torch.testing.assert_close(learner.records.losses, expected)


def test_gradient_of_the_last_layer_is_computed_from_model_outputs(data: Data) -> None:
    learner = Learner(QUICK, data, 0, CPU)
    found = learner._state(0).train()
    images = torch.cat([batch.images for batch in learner.loaders["train"].all()])
    loss = torch.nn.functional.cross_entropy(learner.model(images), data.train.labels, reduction="sum")
    loss.backward()
    head = learner.model.head
    assert head.weight.grad is not None
    assert head.bias.grad is not None
    expected = torch.cat([head.weight.grad, head.bias.grad[:, None]], dim=1)
    torch.testing.assert_close(total(found), expected, rtol=1e-4, atol=1e-4)


def test_step_follows_the_weighted_mean_of_the_losses(data: Data) -> None:
    # given weights for three examples, and a run of one batch
    settings = replace(QUICK, momentum=0.0, weight_decay=0.0)
    weights = torch.tensor([2.0, 0.5, 0.5])
    learner, other = (Learner(settings, data, 0, CPU) for _ in range(2))
    # when
    learner._train(0, Selection(torch.tensor([4, 9, 11]), weights))
    # then each parameter has changed by the learning rate times the gradient of the losses' weighted mean
    mean, deviation = statistics(data.train)
    images = (data.train.images[[4, 9, 11]].float() - mean) / deviation
    losses = torch.nn.functional.cross_entropy(
        other.model(images), data.train.labels[[4, 9, 11]], reduction="none"
    )
    ((losses * weights).sum() / 3).backward()
    for ours, theirs in zip(learner.model.parameters(), other.model.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours, theirs - settings.learning_rate * theirs.grad)


def test_loader_gives_every_selected_example_once_with_its_weight(data: Data) -> None:
    mean, deviation = statistics(data.train)
    loader = Loader(data.train, mean, deviation, 8, CPU)
    selection = Selection(torch.arange(0, 60, 3), torch.rand(20))
    batches = list(loader.training(selection, random_numbers(0)))
    assert [len(batch.indices) for batch in batches] == [8, 8, 4]
    indices, weights = (torch.cat([getattr(b, name) for b in batches]) for name in ("indices", "weights"))
    order = indices.argsort()
    assert indices.tolist() != selection.indices.tolist()
    assert torch.equal(indices[order], selection.indices)
    assert torch.equal(weights[order], selection.weights)
    assert all(torch.equal(batch.labels, data.train.labels[batch.indices]) for batch in batches)
    whole = torch.cat([batch.images for batch in loader.all()])
    assert whole.mean() == pytest.approx(0, abs=1e-5)
    assert whole.std(correction=0) == pytest.approx(1, abs=1e-4)


def test_augmented_pictures_are_windows_of_the_padded_ones() -> None:
    images = torch.rand(40, 3, 8, 8)
    found = augmented(images, Shifts.drawn(40, random_numbers(0)))
    padded = torch.nn.functional.pad(images, [4] * 4, mode="reflect")
    kinds = set()
    for row in range(40):
        places = [
            (down, right, mirrored)
            for down in range(9)
            for right in range(9)
            for mirrored in (False, True)
            for window in [padded[row, :, down : down + 8, right : right + 8]]
            if torch.equal(found[row], window.flip(2) if mirrored else window)
        ]
        assert places
        kinds.add(places[0])
    assert len(kinds) > 20
    # windows near the left and right edges are left out: because the padding is reflected, they also occur as
    # mirror images of other windows
    assert {mirrored for _, right, mirrored in kinds if 1 < right < 7} == {False, True}


@pytest.mark.parametrize("strategy", ["glister", "craig", "fewer_epochs"])
def test_run_learns_to_distinguish_the_classes(strategy: str, data: Data) -> None:
    settings = replace(QUICK, strategy=strategy, fraction=0.5, epochs=20, learning_rate=0.02)
    learner = Learner(settings, data, 0, CPU)
    while not learner.done:
        learner.epoch()
    assert len(learner.rows) == (10 if strategy == "fewer_epochs" else 20)
    assert learner.rows[-1]["validation_accuracy"] >= 0.95
    assert learner.rows[-1]["validation_loss"] < 0.5 * learner.rows[0]["validation_loss"]


def test_divergence_is_a_failure_that_names_the_rate(data: Data) -> None:
    settings = replace(QUICK, strategy="full", fraction=1.0, learning_rate=100.0, epochs=20)
    with pytest.raises(
        FatalError, match=r"diverged in epoch .*; hyperparameter learning_rate must be below 100"
    ):
        run(settings, data, 20)


def test_resnet18_has_the_size_of_the_one_for_cifar() -> None:
    model = models.build("resnet18", (3, 32, 32), 10, 0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_173_962
    logits, features = model.both(torch.rand(2, 3, 16, 16))
    assert (logits.shape, features.shape) == ((2, 10), (2, 512))


def test_bf16_run_is_near_that_of_single_precision(data: Data) -> None:
    full, half = (run(replace(QUICK, precision=precision), data, 2) for precision in ("fp32", "bf16"))
    assert half.rows[0]["train_loss"] == pytest.approx(full.rows[0]["train_loss"], rel=0.05)
    assert half.rows[0]["train_loss"] != full.rows[0]["train_loss"]


def test_learning_rate_falls_along_a_cosine(data: Data) -> None:
    learner = Learner(replace(QUICK, batch_size=18), data, 0, CPU)
    rates = []
    while not learner.done:
        learner.epoch()
        rates.append(learner.optimizer.param_groups[0]["lr"])
    # the run has one batch in each of six epochs
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6)])


def test_evaluation_does_not_change_the_model(data: Data) -> None:
    # given a network with batch normalization, and thus with running statistics
    learner = Learner(replace(QUICK, model="resnet18"), data, 0, CPU)
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    # when the network is evaluated in batches of different sizes
    loss, accuracy = learner.evaluate(learner.loaders["validation"])
    learner.loaders["validation"].size = 2
    # then neither the network nor the result changes
    assert learner.evaluate(learner.loaders["validation"]) == pytest.approx((loss, accuracy), abs=1e-5)
    assert all(torch.equal(before[name], value) for name, value in learner.model.state_dict().items())


def test_resnet9_has_the_size_of_the_published_one() -> None:
    model = models.build("resnet9", (3, 32, 32), 10, 0)
    # the published network has 6,573,120 parameters, and no bias in its last layer
    assert sum(parameter.numel() for parameter in model.parameters()) == 6_573_120 + 10
    logits, features = model.both(torch.rand(2, 3, 16, 16))
    assert (logits.shape, features.shape) == ((2, 10), (2, 512))


def test_rate_of_the_fast_recipe_rises_and_falls(data: Data) -> None:
    learner = Learner(replace(QUICK, recipe="fast"), data, 0, CPU)
    rates = [learner._rate(progress) for progress in (0, 0.1, 0.2, 0.6, 1)]
    assert rates == pytest.approx([0.05 / 25, 0.05 * 0.52, 0.05, 0.025, 0])


def test_fast_recipe_smooths_labels_of_the_minimized_loss_only(data: Data) -> None:
    # given one training step on all examples, without augmentation, at the fast recipe's initial learning
    # rate
    settings = replace(QUICK, strategy="full", fraction=1.0, batch_size=60, momentum=0.0, weight_decay=0.0)
    learner, other = (Learner(replace(settings, recipe=name), data, 0, CPU) for name in ("fast", "plain"))
    learner.settings = other.settings
    images = torch.cat([batch.images for batch in other.loaders["train"].all()])
    labels = data.train.labels
    # when
    loss, _ = learner._train(0, Selection(torch.arange(60), torch.ones(60)))
    # then the step minimizes the loss of smoothed labels, and reports the loss of the true labels
    torch.nn.functional.cross_entropy(other.model(images), labels, label_smoothing=0.2).backward()
    for ours, theirs in zip(learner.model.parameters(), other.model.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours, theirs - 0.05 / 25 * theirs.grad)
    plain = torch.nn.functional.cross_entropy(other.model(images), labels)
    assert loss == pytest.approx(plain.item())


def test_fast_recipe_augments_and_is_mixed_on_gpus_only(data: Data) -> None:
    settings = Settings(recipe="fast", model="resnet9")
    settings.check()
    assert (settings.augmented, Settings().augmented) == (True, False)
    assert not Learner(settings, data, 0, CPU).mixed
