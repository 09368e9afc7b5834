"""Last-layer gradients in closed form, from the outputs of a forward pass.

For the softmax cross-entropy of logits z = W h + b, the gradient with respect to [W b] is the outer product
of the error p - y and the input [h 1], where p is softmax(z) and y is the one-hot label. Gradients are never
stored: the inner product of two gradients is the inner product of their errors times the inner product of
their inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Outputs:
    """Model outputs for n examples."""

    logits: Tensor
    """Shape [n, C]"""
    features: Tensor
    """Shape [n, D]: inputs of the last layer"""
    labels: Tensor
    """Shape [n], int64"""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def errors(self) -> Tensor:
        """Gradient of each example's loss with respect to its logits, [n, C]."""
        return self.logits.softmax(1) - functional.one_hot(self.labels, self.logits.shape[1])

    @cached_property
    def inputs(self) -> Tensor:
        """Features with a column of ones for the bias, [n, D + 1]."""
        return functional.pad(self.features, (0, 1), value=1.0)

    def part(self, indices: Tensor) -> Outputs:
        """Return the outputs of the given examples."""
        at = indices.to(self.labels.device)
        return Outputs(self.logits[at], self.features[at], self.labels[at])


def total(outputs: Outputs) -> Tensor:
    """Return the sum of all gradients, [C, D + 1]."""
    return outputs.errors.T @ outputs.inputs


def along(outputs: Outputs, direction: Tensor) -> Tensor:
    """Return the inner product of each gradient with a direction [C, D + 1], as [n]."""
    return ((outputs.inputs @ direction.T) * outputs.errors).sum(1)


def products(outputs: Outputs) -> Tensor:
    """Return the Gram matrix of the gradients, float64 [n, n]."""
    errors, inputs = outputs.errors.double(), outputs.inputs.double()
    return (errors @ errors.T) * (inputs @ inputs.T)


def batch_totals(outputs: Outputs, batches: list[Tensor]) -> Tensor:
    """Return the sum of the gradients of each batch, float64 [batches, C * (D + 1)]."""
    return torch.stack([total(outputs.part(batch)).flatten() for batch in batches]).double()
