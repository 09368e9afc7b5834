"""Networks that return features and the logits of a linear last layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALL, RESNET18, RESNET9, MLP = "small", "resnet18", "resnet9", "mlp"
NAMES = (SMALL, RESNET18, RESNET9, MLP)
LEAST_SIDE = {SMALL: 4, RESNET18: 4, RESNET9: 8, MLP: 4}
"""Minimum picture side in pixels: the small network halves it twice, ResNet-9 three times."""

Norm = Callable[[int], nn.Module]
"""Makes a batch normalization layer for a number of channels."""


class Classifier(nn.Module):
    """A network: `body` computes the features, and `head`, a linear layer, computes the logits from them."""

    def __init__(self, body: nn.Module, width: int, classes: int):
        super().__init__()
        self.body, self.head = body, nn.Linear(width, classes)
        self.width = width

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [n, C] and features [n, D] of images [n, channels, H, W]."""
        features = cast(Tensor, self.body(images))
        return self.head(features), features

    def forward(self, images: Tensor) -> Tensor:
        return self.both(images)[0]


def small(shape: tuple[int, int, int], classes: int, norm: Norm) -> Classifier:
    """Return a small network of two convolutions."""
    channels, height, width = shape
    body = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 64),
        nn.ReLU(),
    )
    return Classifier(body, 64, classes)


def mlp(shape: tuple[int, int, int], classes: int, norm: Norm) -> Classifier:
    """Return a network of two hidden layers, for tables."""
    body = nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()
    )
    return Classifier(body, 64, classes)


class Block(nn.Module):
    """Residual block of two convolutions (He et al., "Deep Residual Learning", CVPR 2016)."""

    def __init__(self, channels: int, width: int, stride: int, norm: Norm):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            norm(width),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), norm(width))

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.inner(images) + self.shortcut(images))


def resnet18(shape: tuple[int, int, int], classes: int, norm: Norm) -> Classifier:
    """Return ResNet-18 for 32 by 32 pictures: the first convolution is 3 by 3, and no max pooling follows."""
    layers: list[nn.Module] = [nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False), norm(64), nn.ReLU()]
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(channels, width, stride, norm), Block(width, width, 1, norm)]
        channels = width
    return Classifier(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 512, classes)


class Residual(nn.Module):
    """Two convolutions whose output is added to their input."""

    def __init__(self, width: int, norm: Norm):
        super().__init__()
        self.inner = nn.Sequential(_convolution(width, width, norm), _convolution(width, width, norm))

    def forward(self, images: Tensor) -> Tensor:
        return images + self.inner(images)


class Scaled(nn.Module):
    """Multiply by a constant."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, values: Tensor) -> Tensor:
        return values * self.factor


def _convolution(channels: int, width: int, norm: Norm) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), norm(width), nn.ReLU())


def resnet9(shape: tuple[int, int, int], classes: int, norm: Norm) -> Classifier:
    """Return ResNet-9, a network made for fast training on CIFAR-10.

    The architecture of David Page's entry to DAWNBench ("How to Train Your ResNet", Myrtle, 2018), which
    reached an accuracy of 94 % in 24 epochs: https://github.com/davidcpage/cifar10-fast
    """
    body = nn.Sequential(
        _convolution(shape[0], 64, norm),
        _convolution(64, 128, norm),
        nn.MaxPool2d(2),
        Residual(128, norm),
        _convolution(128, 256, norm),
        nn.MaxPool2d(2),
        _convolution(256, 512, norm),
        nn.MaxPool2d(2),
        Residual(512, norm),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        Scaled(0.125),
    )
    return Classifier(body, 512, classes)


MAKERS = {SMALL: small, RESNET18: resnet18, RESNET9: resnet9, MLP: mlp}


def build(
    name: str, shape: tuple[int, int, int], classes: int, seed: int, norm: Norm = nn.BatchNorm2d
) -> Classifier:
    """Return an untrained network.

    :param shape: channels, height and width of a picture; for a table, its number of columns, 1 and 1
    """
    torch.manual_seed(seed)
    return MAKERS[name](shape, classes, norm)
