"""Optimizers of the networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def optimizers(
    parameters: Sequence[torch.nn.Parameter], name: str, rate: float, weight_decay: float = 0.01
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of the parameters.

    AdamW; or Muon (Jordan et al. 2024) for matrices, with steps scaled to the size of AdamW's (Liu et al.
    2025, arXiv:2502.16982), and AdamW for the other parameters.
    """
    options: dict[str, Any] = {"lr": rate, "weight_decay": weight_decay}
    if name == "adamw":
        return [torch.optim.AdamW(parameters, **options)]
    matrices = [_as_matrix(each) for each in parameters if each.dim() > 1]
    rest = [each for each in parameters if each.dim() == 1]
    muon = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **options)
    return [muon, torch.optim.AdamW(rest, **options)] if rest else [muon]


def _as_matrix(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    """Return a matrix that shares the parameter's memory and receives its gradient.

    Muon does not support the weights of convolutions.
    """
    matrix = torch.nn.Parameter(parameter.detach().view(len(parameter), -1))

    def hand_over(owner: torch.Tensor) -> None:
        if owner.grad is not None:
            matrix.grad, owner.grad = owner.grad.flatten(1), None

    parameter.register_post_accumulate_grad_hook(hand_over)
    return matrix
