"""A training run: in each epoch, the model is trained on the subset that a strategy selects."""

from __future__ import annotations

import math
import time
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.failure import FatalError

from . import models
from .data import Data, Examples
from .gradients import Outputs
from .hosts import CUDA, Both, Hosts
from .loader import Batch, Loader, statistics
from .recipes import RECIPES
from .records import Records
from .selection import Selection, State, random_numbers
from .settings import BF16, RECORDED, Settings
from .strategies.names import plan, strategy

Row = dict[str, Any]
"""Results of an epoch by column name."""


class Moment(NamedTuple):
    """Wall-clock and processor time, in seconds. Compare runs on a shared machine by processor time."""

    wall: float
    processor: float
    """Processor time of all threads of this process"""


class Learner:
    """Model, optimizer and strategy of a run. A resumed run gives the same results as an uninterrupted one.

    :param hosts: hosts that train the model together; before each batch, all stop if one of them received
        SIGTERM. Default: only this host
    """

    def __init__(
        self,
        settings: Settings,
        data: Data,
        seed: int,
        device: torch.device,
        hosts: Hosts | None = None,
    ):
        self.settings, self.data, self.seed, self.device = settings, data, seed, device
        self.recipe = RECIPES[settings.recipe]
        self.hosts = hosts or Hosts()
        mean, deviation = statistics(data.train)
        self.loaders = {
            name: Loader(examples, mean, deviation, settings.batch_size, device)
            for name, examples in (("train", data.train), ("validation", data.validation))
        }
        self.mean, self.deviation = mean, deviation
        count, classes, shape = len(data.train), len(data.classes), tuple(data.train.images.shape[1:])
        self.epochs, self.examples = plan(settings.strategy, settings.fraction, settings.epochs, count)
        self.model = models.build(settings.model, shape, classes, seed, self.hosts.norm)
        # the faster memory layout for convolutions, on GPUs and on CPUs
        self.model = self.model.to(device, memory_format=torch.channels_last)
        self.forward = self.hosts.training(self.model)
        """Forward pass for training; its backward pass averages the gradients over all hosts"""
        self.mixed = settings.precision == BF16 or (
            self.recipe.mixed and device.type == CUDA and torch.cuda.is_bf16_supported(False)
        )
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
        )
        self.strategy = strategy(settings.strategy, settings.choices)
        recorded = settings.outputs == RECORDED
        self.records = Records(count, classes, self.model.width, recorded, device)
        self.rows: list[Row] = []
        """One row for each completed epoch"""
        self.forwards = 0
        """Number of training examples in the forward passes that selections needed"""

    @property
    def done(self) -> bool:
        return len(self.rows) >= self.epochs

    def epoch(self) -> Row:
        """Select, train and validate for one epoch. Returns its row.

        Raises `FatalError` if the loss is NaN or infinite.
        """
        number = len(self.rows)
        # for layers with random numbers, such as dropout
        torch.manual_seed(random_numbers(self.seed, number, "layers").initial_seed())
        begun = self._now()
        forwards = self.forwards
        selection = self._select(number)
        selected = self._now()
        loss, accuracy = self._train(number, selection)
        trained = self._now()
        held_loss, held_accuracy = self.evaluate(self.loaders["validation"])
        row = {
            "strategy": self.settings.strategy,
            "fraction": self.settings.fraction,
            "seed": self.seed,
            "epoch": number + 1,
            "examples": len(selection.indices),
            "train_loss": loss,
            "train_accuracy": accuracy,
            "validation_loss": held_loss,
            "validation_accuracy": held_accuracy,
            "training_seconds": trained.wall - selected.wall,
            "selection_seconds": selected.wall - begun.wall,
            "evaluation_seconds": self._now().wall - trained.wall,
            "training_cpu_seconds": trained.processor - selected.processor,
            "selection_cpu_seconds": selected.processor - begun.processor,
            "selection_forwards": self.forwards - forwards,
        }
        if not math.isfinite(loss):
            raise FatalError(
                f"training diverged in epoch {number + 1} of seed {self.seed}: the loss is {loss};"
                f" hyperparameter learning_rate must be below {self.settings.learning_rate:g}"
            )
        self.rows.append(row)
        return row

    def evaluate(self, loader: Loader) -> tuple[float, float]:
        """Return mean loss and accuracy (0 to 1) on the examples of a loader."""
        outputs = self._outputs(loader)
        losses = functional.cross_entropy(outputs.logits, outputs.labels)
        return float(losses), float((outputs.logits.argmax(1) == outputs.labels).float().mean())

    def test(self, examples: Examples) -> tuple[float, float]:
        """Return mean loss and accuracy on the test set."""
        size = self.settings.batch_size
        return self.evaluate(Loader(examples, self.mean, self.deviation, size, self.device))

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "strategy": self.strategy.state_dict(),
            "records": self.records.state_dict(),
            "rows": self.rows,
        }

    def load_state_dict(self, found: dict[str, Any]) -> None:
        self.model.load_state_dict(found["model"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.strategy.load_state_dict(found["strategy"])
        self.records.load_state_dict(found["records"])
        self.rows = found["rows"]

    def _rate(self, progress: float) -> float:
        """Return the learning rate.

        :param progress: from 0 at the start of the run to 1 at its end
        """
        return self.settings.learning_rate * self.recipe.rate(progress)

    def _select(self, number: int) -> Selection:
        """Return the first host's selection on all hosts, because their processors may round differently."""
        selection = self.strategy.select(self._state(number), self.examples)
        return Selection(*map(self.hosts.broadcast, selection))

    def _train(self, number: int, selection: Selection) -> tuple[float, float]:
        """Train on the selected examples. Return mean loss and accuracy, measured before each step.

        Each host computes the gradients of its share of every batch.
        """
        self.model.train()
        loader, hosts = self.loaders["train"], self.hosts
        own, losses, right = [], [], []
        batches = -(-len(selection.indices) // loader.size)
        generator = random_numbers(self.seed, number, "batches of training")
        shares = loader.training(selection, generator, self.settings.augmented, hosts.part)
        for place, batch in enumerate(shares):
            hosts.check()
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate((number + place / batches) / self.epochs)
            logits, features = self._both(self.forward, batch)
            each = functional.cross_entropy(logits, batch.labels, reduction="none")
            self.optimizer.zero_grad(set_to_none=True)
            # scaled so that an example's effect does not depend on its host: the backward pass averages over
            # hosts, whose shares of a batch may differ in size
            total = (self._smoothed(logits, batch.labels, each) * batch.weights).sum()
            (total * (hosts.size / batch.size)).backward()
            self.optimizer.step()
            self.records.add(batch.indices, each, logits, features)
            own.append(batch.indices)
            losses.append(each.detach())
            right.append((logits.argmax(1) == batch.labels).float())
        if hosts.size > 1:
            self.records.exchange(torch.cat(own), hosts)
        loss, accuracy = (float(hosts.gather(torch.cat(found)).mean()) for found in (losses, right))
        return loss, accuracy

    def _smoothed(self, logits: Tensor, labels: Tensor, losses: Tensor) -> Tensor:
        """Return the losses to minimise: with label smoothing if the recipe uses it, else `losses`."""
        if not self.recipe.smoothing:
            return losses
        return functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.recipe.smoothing
        )

    def _both(self, forward: Both, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits and features as float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            logits, features = forward(batch.images)
        return logits.float(), features.float()

    @torch.no_grad()
    def _outputs(self, loader: Loader, indices: Tensor | None = None) -> Outputs:
        """Return the outputs for all or some examples of a loader. Each host computes a share."""
        self.model.eval()
        wanted = torch.arange(len(loader)) if indices is None else indices
        found = [self._both(self.model.both, batch) for batch in loader.all(self.hosts.part(wanted))]
        logits, features = (self.hosts.gather(torch.cat(each)) for each in zip(*found, strict=True))
        return Outputs(logits, features, loader.labels[wanted.to(self.device)])

    def _state(self, number: int) -> State:
        return State(
            epoch=number,
            epochs=self.epochs,
            seed=self.seed,
            labels=self.data.train.labels,
            classes=len(self.data.classes),
            rate=self._rate(number / self.epochs),
            losses=self.records.losses,
            train=cache(self._train_outputs),
            validation=cache(lambda: self._validation_outputs(number)),
            embeddings=self._embeddings,
        )

    def _train_outputs(self) -> Outputs:
        loader, records = self.loaders["train"], self.records
        if records.logits is None or records.features is None:
            self.forwards += len(loader)
            return self._outputs(loader)
        missing = records.missing()
        if len(missing):
            self.forwards += len(missing)
            found = self._outputs(loader, missing)
            records.set_outputs(missing.to(self.device), found.logits, found.features)
        return Outputs(records.logits.clone(), records.features.clone(), loader.labels)

    def _validation_outputs(self, number: int) -> Outputs:
        loader, count = self.loaders["validation"], self.settings.validation_sample
        sample = random_numbers(self.seed, number, "validation sample")
        return self._outputs(loader, loader.sample(count, sample) if count else None)

    def _embeddings(self) -> Tensor:
        """Return the embeddings of the data, or standardized pixels if there are none."""
        if self.data.train.embeddings is not None:
            return self.data.train.embeddings
        return torch.cat([batch.images.flatten(1).cpu() for batch in self.loaders["train"].all()])

    def _now(self) -> Moment:
        """Wait for the work queued on the device, and return the time."""
        if self.device.type == CUDA:
            torch.cuda.synchronize(self.device)
        return Moment(time.perf_counter(), time.process_time())
