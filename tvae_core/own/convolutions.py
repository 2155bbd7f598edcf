"""Convolutions for larger pictures: an encoder's first layers, and a decoder's last ones.

A fully connected layer has a weight for each pixel and unit, and has to learn an edge again at each
place. From about 64 pixels on, convolutions learn more from the same pictures, and take longer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tvae_core.models import VAE

BODIES = ("mlp", "conv")
CHANNELS = (16, 32, 64)  # each layer halves height and width


class Look(nn.Module):
    """From flat images to features: strided convolutions, then one linear layer."""

    def __init__(self, shape: Sequence[int], features: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        layers: list[nn.Module] = []
        for n_in, n_out in zip((shape[0], *CHANNELS), CHANNELS, strict=False):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.ReLU()]
        height, width = _sizes(shape)[-1]
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(CHANNELS[-1] * height * width, features)
        )

    def forward(self, x: Float[Tensor, "*B P"]) -> Float[Tensor, "*B F"]:
        flat = self.layers(x.reshape(-1, *self.shape))
        return flat.view(*x.shape[:-1], flat.shape[-1])


class Draw(nn.Module):
    """From features to the logits of flat images: the layers of `Look` in the other direction.

    Enlarging first and convolving then leaves no checkerboard, unlike a transposed convolution.
    Each pixel has its own bias.
    """

    def __init__(self, features: int, shape: Sequence[int]) -> None:
        super().__init__()
        sizes = _sizes(shape)
        self.first = nn.Linear(features, CHANNELS[-1] * sizes[-1][0] * sizes[-1][1])
        self.start = (CHANNELS[-1], *sizes[-1])
        layers: list[nn.Module] = []
        outputs = (shape[0], *CHANNELS)
        for i in reversed(range(len(CHANNELS))):
            conv = nn.Conv2d(CHANNELS[i], outputs[i], 3, padding=1, bias=i > 0)
            layers += [nn.ReLU(), nn.Upsample(size=sizes[i]), conv]
        self.layers = nn.Sequential(*layers)
        self.bias = nn.Parameter(torch.zeros(shape[0] * shape[1] * shape[2]))

    def forward(self, h: Float[Tensor, "*S F"]) -> Float[Tensor, "*S P"]:
        images = self.layers(self.first(h).reshape(-1, *self.start))
        return images.reshape(*h.shape[:-1], -1) + self.bias


def _sizes(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of the image and after each layer."""
    sizes = [(shape[1], shape[2])]
    for _ in CHANNELS:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def convolve(model: VAE, features: int) -> None:
    """Put convolutions where a new model with a `SecondLook` has layers as wide as the image.

    `features` is the width of its hidden layers.
    """
    encoder, canonical = model.encoder, model.decoder.canonical
    encoder.body = nn.Sequential(Look(model.shape, features), nn.ReLU())
    encoder.read = Look(model.shape, features)
    canonical.logits = Draw(features, model.shape)
