"""Losses and outputs recorded during training, so that selections need no forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .hosts import Hosts


class Records:
    """The last loss of each training example, and optionally its last logits and features.

    The records of different examples may be from different training steps. They were computed in training
    mode, with augmented pictures and with batch normalization by the statistics of the batch.
    """

    def __init__(self, count: int, classes: int, width: int, outputs: bool, device: torch.device):
        self.losses = torch.full((count,), torch.nan, device=device)
        """Shape [n]; NaN for examples not trained on yet"""
        self.logits = self.features = None
        if outputs:
            self.logits = torch.full((count, classes), torch.nan, device=device)
            self.features = torch.full((count, width), torch.nan, device=device)

    def add(self, indices: Tensor, losses: Tensor, logits: Tensor, features: Tensor) -> None:
        at = indices.to(self.losses.device)
        self.losses[at] = losses.detach()
        self.set_outputs(at, logits, features)

    def set_outputs(self, at: Tensor, logits: Tensor, features: Tensor) -> None:
        if self.logits is not None and self.features is not None:
            self.logits[at] = logits.detach()
            self.features[at] = features.detach()

    def exchange(self, indices: Tensor, hosts: Hosts) -> None:
        """Add the records of other hosts.

        :param indices: examples that this host recorded since the last exchange
        """
        at = indices.to(self.losses.device)
        everywhere = hosts.gather(at)
        for values in (self.losses, self.logits, self.features):
            if values is not None:
                values[everywhere] = hosts.gather(values[at])

    def missing(self) -> Tensor:
        """Return the indices of examples that have no recorded outputs, as a CPU tensor."""
        assert self.logits is not None  # noqa: S101 - called only if outputs are recorded
        return self.logits[:, 0].isnan().nonzero().squeeze(1).cpu()

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "logits": self.logits, "features": self.features}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        device = self.losses.device
        for name, value in found.items():
            setattr(self, name, None if value is None else value.to(device))
