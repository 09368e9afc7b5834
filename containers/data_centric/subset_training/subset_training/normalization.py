"""Batch normalization over a batch that is split across hosts."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class HostsBatchNorm(nn.BatchNorm2d):
    """Batch normalization with the statistics of the batch on all hosts, as if one host had the whole batch.

    `nn.SyncBatchNorm` has no CPU implementation. With mixed precision, it would exchange tensors of
    different types between hosts if one host's share of the batch is empty.

    All hosts must take part in every training step, even with an empty share.

    :param group: process group of the hosts. Default: the group for tensors on CPUs
    """

    def __init__(self, channels: int, group: dist.ProcessGroup | None = None):
        super().__init__(channels)
        self.group = group

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        images = input.float()
        size = images.new_full((1,), float(images.numel() // self.num_features))
        total = _Sum.apply(torch.cat([images.sum((0, 2, 3)), size]), self.group)
        count = total[-1].detach()
        mean = total[:-1] / count
        centered = images - mean.view(1, -1, 1, 1)
        variance = _Sum.apply(centered.square().sum((0, 2, 3)), self.group) / count
        self._track(mean.detach(), variance.detach() * (count / (count - 1).clamp(min=1)))
        scale = self.weight * (variance + self.eps).rsqrt()
        found = centered * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return found.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics as `nn.BatchNorm2d` does."""
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            running.lerp_(new, self.momentum)
        self.num_batches_tracked += 1


class _Sum(torch.autograd.Function):
    """Differentiable sum over all hosts, by all-reduce."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        return _summed(values, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _summed(gradient, ctx.group), None


def _summed(values: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    found = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(found, group=group)
    return found
