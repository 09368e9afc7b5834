"""The measurements of `benchmarks.data_centric.speed`, which run in a separate Python environment.

Four implementations of the same selection are compared. The first two are ours: with a forward pass over the
training set, and with outputs that were recorded in training. The third computes per-example gradients with
autograd, and uses our greedy selection. The fourth is `GLISTERStrategy` of CORDS, whose code is loaded from a
folder. The last two make their own forward passes.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import math
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.data_centric import bounds, mnist
from benchmarks.data_centric.speed import ROUNDS
from subset_training.data import Data, Examples
from subset_training.gradients import Outputs, total
from subset_training.learner import Learner
from subset_training.selection import permuted, random_numbers
from subset_training.settings import Settings
from subset_training.strategies.glister import Glister
from tooling.table import print_table

BEFORE = 2
"""Number of training epochs before the selection."""
BATCH = 64
CPU = torch.device("cpu")
OURS, RECORDED = "ours", "ours, outputs recorded in training"
AUTOGRAD, CORDS = "autograd, example by example", "CORDS"


def main() -> int:
    options = parse()
    torch.set_num_threads(1)
    learner = prepared(options.examples)
    theirs = cords(options.published)
    outputs = learner._state(BEFORE).train()
    ways: dict[str, Callable[[], Tensor]] = {
        OURS: lambda: ours(learner, options.budget),
        RECORDED: lambda: ours(learner, options.budget, outputs),
        AUTOGRAD: lambda: by_example(learner, options.budget),
        CORDS: lambda: by_cords(theirs, learner, options.budget, options.batch),
    }
    ways[OURS]()  # not measured: the first call is slower than later calls
    found: dict[str, list[tuple[Tensor, float]]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            found[name].append(timed(way))
    seconds = {name: [each[1] for each in pairs] for name, pairs in found.items()}
    same = {name: shared(found[OURS][0][0], pairs[0][0]) for name, pairs in found.items()}

    def ratio(theirs: str, mine: str) -> float:
        return min(b / a for a, b in zip(seconds[mine], seconds[theirs], strict=True))

    print(f"\nOne selection of {options.budget} of {options.examples} examples in {ROUNDS} rounds:\n")
    print_table(
        [
            (name, f"{min(seconds[name]):.3f}", f"{ratio(name, OURS):.2f}", f"{same[name]:.4f}")
            for name in ways
        ],
        ("implementation", "CPU s, lowest", "ratio to ours, lowest", "same examples"),
    )
    report: dict[str, Any] = {
        "examples": options.examples,
        "budget": options.budget,
        "batch": options.batch,
        "cpu_seconds": seconds,
        "metrics": {
            "glister_speed_ratio": ratio(AUTOGRAD, OURS),
            "glister_speed_ratio_cords": ratio(CORDS, OURS),
            "glister_speed_ratio_recorded": ratio(AUTOGRAD, RECORDED),
            "glister_speed_ratio_recorded_cords": ratio(CORDS, RECORDED),
            "glister_same_subset": min(same.values()),
        },
    }
    return bounds.finish(bounds.SPEED, report, options.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--published", "--json"):
        parser.add_argument(name, type=Path)
    for name in ("--examples", "--budget", "--batch", "--repeats"):
        parser.add_argument(name, type=int, required=True)
    return parser.parse_args()


def timed(way: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Return the selection of an implementation, and its processor seconds."""
    started = time.process_time()
    return way(), time.process_time() - started


def shared(ours: Tensor, theirs: Tensor) -> float:
    """Return the share of our selected examples that are in the other selection; 0 if the sizes differ."""
    return float(torch.isin(ours, theirs).float().mean()) if len(ours) == len(theirs) else 0.0


def prepared(count: int) -> Learner:
    """Return a run after `BEFORE` epochs on MNIST, with the training set repeated to `count` examples.

    Repeated examples have noise, so that no two gradients are the same.
    """
    data = mnist.reported(mnist.pictures())
    settings = Settings(strategy="full", epochs=40, batch_size=BATCH)
    learner = Learner(settings, repeated(data, count), 0, CPU)
    for _ in range(BEFORE):
        learner.epoch()
    learner.model.eval()
    return learner


def repeated(data: Data, count: int) -> Data:
    generator = random_numbers("repeated")
    copies = math.ceil(count / len(data.train))
    rows = permuted(torch.arange(len(data.train)).repeat(copies), generator)[:count]
    noise = torch.randint(-8, 9, (count, *data.train.images.shape[1:]), generator=generator)
    images = (data.train.images[rows].int() + noise).clamp(0, 255).to(torch.uint8)
    return replace(data, train=Examples(images, data.train.labels[rows]))


def ours(learner: Learner, budget: int, recorded: Outputs | None = None) -> Tensor:
    """Select as a training job does: from `recorded` outputs, or from those of a new forward pass."""
    state = learner._state(BEFORE)
    if recorded is not None:
        state = replace(state, train=lambda: Outputs(recorded.logits, recorded.features, recorded.labels))
    return Glister(ROUNDS).select(state, budget).indices


def by_example(learner: Learner, budget: int) -> Tensor:
    """Select by last-layer gradients, which autograd computes for each example separately."""
    head = learner.model.head
    gradients = torch.empty(len(learner.data.train), head.weight.numel() + head.bias.numel())
    loader = learner.loaders["train"]
    for row in range(len(gradients)):
        batch = next(loader.all(torch.tensor([row])))
        loss = nn.functional.cross_entropy(learner.model(batch.images), batch.labels)
        weight, bias = torch.autograd.grad(loss, [head.weight, head.bias])
        gradients[row] = torch.cat([weight, bias[:, None]], 1).flatten()
    state = learner._state(BEFORE)
    now, taken = state.validation(), []
    free = torch.ones(len(gradients), dtype=torch.bool)
    for number in range(ROUNDS):
        share = budget * (number + 1) // ROUNDS - budget * number // ROUNDS
        gains = gradients @ (total(now) / len(now)).flatten()
        picked = gains.masked_fill(~free, -math.inf).topk(share).indices
        free[picked] = False
        taken.append(picked)
        step = state.rate * gradients[picked].sum(0).view(total(now).shape)
        now = Outputs(now.logits - now.inputs @ step.T, now.features, now.labels)
    return torch.cat(taken)


class ForCords(nn.Module):
    """A network with the methods that CORDS calls."""

    def __init__(self, learner: Learner):
        super().__init__()
        self.inner = learner.model

    def get_embedding_dim(self) -> int:
        return self.inner.width

    def forward(self, images: Tensor, last: bool = False, freeze: bool = False) -> Any:
        with torch.set_grad_enabled(not freeze):
            logits, features = self.inner.both(images)
        return (logits.requires_grad_(), features) if last else logits


def by_cords(strategy: Any, learner: Learner, budget: int, batch: int) -> Tensor:
    """Select with CORDS's code in `ROUNDS` rounds, with gradients of weights and bias of the last layer."""
    loaders = []
    for name in ("train", "validation"):
        every = list(learner.loaders[name].all())
        images, labels = (torch.cat([getattr(each, part) for each in every]) for part in ("images", "labels"))
        loaders.append(DataLoader(TensorDataset(images, labels), batch_size=batch))
    model = ForCords(learner)
    rate = learner._state(BEFORE).rate
    loss, log = nn.CrossEntropyLoss(reduction="none"), logging.getLogger("cords")
    how = mnist.CLASSES, True, "Supervised", "RGreedy", log, ROUNDS
    made = strategy(*loaders, model, loss, rate, "cpu", *how)
    indices, _ = made.select(budget, model.state_dict())
    return torch.tensor(indices)


def cords(folder: Path) -> Any:
    """Return the class `GLISTERStrategy` of CORDS from the folder with its two modules."""
    package = types.ModuleType("published")
    package.__path__ = [str(folder)]
    sys.modules["published"] = package
    for name in ("dataselectionstrategy", "glisterstrategy"):
        spec = importlib.util.spec_from_file_location(f"published.{name}", folder / f"{name}.py")
        assert spec is not None  # noqa: S101 - the folder was checked
        assert spec.loader is not None  # noqa: S101 - likewise
        sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["published.glisterstrategy"].GLISTERStrategy


if __name__ == "__main__":
    sys.exit(main())
