"""Gradients of the last layer, in closed form from what a forward pass leaves.

For the softmax cross-entropy of logits z = W h + b, the gradient to [W b] is the outer product of the error
p - y, where p is softmax(z) and y the one-hot label, and of the input [h 1]. So gradients are never stored: a
product of two of them is the product of their errors times the product of their inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Outputs:
    """What the model says about n examples."""

    logits: Tensor
    """[n, C]"""
    features: Tensor
    """[n, D], the inputs of the last layer"""
    labels: Tensor
    """[n] int64"""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def errors(self) -> Tensor:
        """[n, C] gradient of each example's loss to its logits."""
        return self.logits.softmax(1) - functional.one_hot(self.labels, self.logits.shape[1])

    @cached_property
    def inputs(self) -> Tensor:
        """[n, D + 1] features, and 1 for the bias."""
        return functional.pad(self.features, (0, 1), value=1.0)

    def part(self, indices: Tensor) -> Outputs:
        """Return the outputs of some of the examples."""
        at = indices.to(self.labels.device)
        return Outputs(self.logits[at], self.features[at], self.labels[at])


def total(outputs: Outputs) -> Tensor:
    """Return the sum of all gradients, [C, D + 1]."""
    return outputs.errors.T @ outputs.inputs


def along(outputs: Outputs, direction: Tensor) -> Tensor:
    """Return the product of each gradient with a direction [C, D + 1], as [n]."""
    return ((outputs.inputs @ direction.T) * outputs.errors).sum(1)


def products(outputs: Outputs) -> Tensor:
    """Return the products of all pairs of gradients, float64 [n, n]."""
    errors, inputs = outputs.errors.double(), outputs.inputs.double()
    return (errors @ errors.T) * (inputs @ inputs.T)


def batch_totals(outputs: Outputs, batches: list[Tensor]) -> Tensor:
    """Return the sum of the gradients of each batch, float64 [batches, C * (D + 1)]."""
    return torch.stack([total(outputs.part(batch)).flatten() for batch in batches]).double()
