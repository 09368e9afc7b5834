"""Batches of weighted examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .data import Examples
from .selection import Selection, permuted, unweighted

PADDING = 4
"""Maximum shift of a random crop, in pixels."""


class Batch(NamedTuple):
    indices: Tensor
    """[b] int64, on the CPU"""
    images: Tensor
    """[b, channels, H, W] float32, standardized"""
    labels: Tensor
    """[b]"""
    weights: Tensor
    """[b]"""
    size: int
    """Size of the global batch, over all hosts"""


class Loader:
    """Examples in memory. Batches are standardized with the training set's statistics."""

    def __init__(
        self, examples: Examples, mean: Tensor, deviation: Tensor, size: int, device: torch.device
    ) -> None:
        """:param mean: [channels], of the examples' values: pixels from 0 to 255, or a table's numbers
        :param deviation: [channels], of the same values"""
        self.images, self.labels = examples.images.to(device), examples.labels.to(device)
        self.mean, self.deviation = (each.view(1, -1, 1, 1).to(device) for each in (mean, deviation))
        self.size, self.device = size, device

    def __len__(self) -> int:
        return len(self.labels)

    def training(
        self,
        selection: Selection,
        generator: torch.Generator,
        augment: bool = False,
        part: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> Iterator[Batch]:
        """Yield shuffled batches of the selected examples, with random crops and flips if `augment`.

        :param part: returns the rows of a batch that this host computes, possibly none. Default: all rows
        """
        order = torch.randperm(len(selection.indices), generator=generator)
        for rows in order.split(self.size):
            place = part(torch.arange(len(rows)))
            own = rows[place]
            batch = self._batch(selection.indices[own], selection.weights[own])._replace(size=len(rows))
            if augment:
                # drawn for the whole batch, so that a picture's shift does not depend on the number of hosts
                shifts = Shifts.drawn(len(rows), generator).part(place)
                batch = batch._replace(images=augmented(batch.images, shifts))
            yield batch

    def all(self, indices: Tensor | None = None) -> Iterator[Batch]:
        """Yield batches of all examples, or of the given indices, in order."""
        selection = unweighted(torch.arange(len(self)) if indices is None else indices)
        # larger batches are faster on a GPU, but half as fast on a CPU, because they exceed its caches
        size = 4 * self.size if self.device.type == "cuda" else self.size
        for rows in torch.arange(len(selection.indices)).split(size):
            yield self._batch(selection.indices[rows], selection.weights[rows])

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the sorted indices of `count` random examples, or of all if there are fewer."""
        return permuted(torch.arange(len(self)), generator)[:count].sort().values

    def _batch(self, indices: Tensor, weights: Tensor) -> Batch:
        at = indices.to(self.device)
        images = (self.images[at].float() - self.mean) / self.deviation
        images = images.contiguous(memory_format=torch.channels_last)
        return Batch(indices, images, self.labels[at], weights.to(self.device), len(indices))


def statistics(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel or column, [channels] each.

    The deviation of pixels is at least 1. The deviation of a column whose values are all equal is 1.
    """
    count = len(examples) * examples.images[0, 0].numel()
    parts = examples.images.split(1024)
    mean = torch.stack([part.double().sum((0, 2, 3)) for part in parts]).sum(0) / count
    center = mean.view(1, -1, 1, 1)
    squares = torch.stack([(part.double() - center).square().sum((0, 2, 3)) for part in parts]).sum(0)
    deviation = (squares / count).sqrt()
    if examples.images.dtype == torch.uint8:
        deviation = deviation.clamp(min=1.0)
    constant = deviation <= 1e-7 * mean.abs()  # the resolution of float32
    return mean.float(), torch.where(constant, 1.0, deviation).float()


class Shifts(NamedTuple):
    """Random crops and flips of a batch, [b] each."""

    down: Tensor
    right: Tensor
    mirrored: Tensor

    @classmethod
    def drawn(cls, count: int, generator: torch.Generator) -> Shifts:
        down, right = torch.randint(2 * PADDING + 1, (2, count), generator=generator)
        return cls(down, right, torch.rand(count, generator=generator) < 0.5)

    def part(self, rows: Tensor) -> Shifts:
        return Shifts(*(each[rows] for each in self))


def augmented(images: Tensor, shifts: Shifts) -> Tensor:
    """Pad the pictures by reflection by `PADDING` pixels, then crop and flip them as in `shifts`."""
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, [PADDING] * 4, mode="reflect")
    rows = shifts.down[:, None] + torch.arange(height)
    columns = shifts.right[:, None] + torch.arange(width)
    columns = torch.where(shifts.mirrored[:, None], columns.flip(1), columns)
    device = images.device
    example = torch.arange(count, device=device)[:, None, None]
    found = padded.permute(0, 2, 3, 1)[example, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
    return found.permute(0, 3, 1, 2)
