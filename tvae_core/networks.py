"""Building blocks of the encoder and the decoder, and distributions of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers `widths[0] -> widths[1] -> ...`, each followed by a ReLU."""
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths):
        layers += [nn.Linear(d_in, d_out), nn.ReLU()]
    return nn.Sequential(*layers)


def near_zero_linear(d_in: int, d_out: int, std: float) -> nn.Linear:
    """A linear layer whose initial outputs are small: weights N(0, std^2), zero bias."""
    linear = nn.Linear(d_in, d_out)
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return linear


@dataclass(frozen=True)
class PixelBernoulli:
    """Independent Bernoulli pixels, p(x | latents).

    For binary x, `log_prob` is a log-probability. For gray x in [0, 1] it is minus the binary
    cross-entropy, which many papers report although it is not a normalised density of gray images:
    compare such numbers only with each other.
    """

    logits: Float[Tensor, "*S C H W"]

    @classmethod
    def from_probs(cls, probs: Float[Tensor, "*S C H W"], floor: float = 1e-6) -> PixelBernoulli:
        """From probabilities, rescaled to [floor, 1 - floor].

        Unlike a clamp, the affine rescaling keeps the gradient at p = 0 and p = 1.
        """
        return cls(torch.logit(floor + (1 - 2 * floor) * probs))

    @property
    def mean(self) -> Float[Tensor, "*S C H W"]:
        return torch.sigmoid(self.logits)

    def log_prob(self, x: Float[Tensor, "*B C H W"]) -> Float[Tensor, "*S"]:
        """log p(x | latents) in nats, summed over the pixels; x broadcasts over leading axes."""
        x = x.expand_as(self.logits)
        nats = F.binary_cross_entropy_with_logits(self.logits, x, reduction="none")
        return -nats.flatten(-3).sum(-1)

    def sample(self) -> Float[Tensor, "*S C H W"]:
        return torch.bernoulli(self.mean)


@dataclass(frozen=True)
class PixelContinuousBernoulli:
    """Independent continuous Bernoulli pixels: a density of gray images on [0, 1].

    The Bernoulli's formula times the factor that makes it integrate to 1, which is l / tanh(l / 2)
    for a pixel with logit l (Loaiza-Ganem & Cunningham 2019). Use it to score gray images: values
    are log-densities, not comparable with those of `PixelBernoulli`.

    torch.distributions.ContinuousBernoulli computes that factor from clamped probabilities,
    wrongly beyond |l| = 16 in float32: on a trained decoder it is off by several nats per image.
    """

    logits: Float[Tensor, "*S C H W"]

    @property
    def mean(self) -> Float[Tensor, "*S C H W"]:
        """(1 + coth(l / 2)) / 2 - 1 / l, where l is the logit."""
        flat, series = self.logits.abs() < 0.1, self.logits / 12 - self.logits**3 / 720
        safe = torch.where(flat, 1.0, self.logits)
        return 0.5 + torch.where(flat, series, 0.5 / (safe / 2).tanh() - 1 / safe)

    def log_prob(self, x: Float[Tensor, "*B C H W"]) -> Float[Tensor, "*S"]:
        """log-density of x in nats, summed over the pixels; x broadcasts over leading axes."""
        size = self.logits.abs()
        flat = size < 0.1  # too close to 0/0, above all for gradients; here the series is exact
        safe, square = torch.where(flat, 1.0, size), size.square()
        series = math.log(2) + square / 12 - 7 * square.square() / 1440
        log_norm = torch.where(flat, series, (safe / (safe / 2).tanh()).log())
        return PixelBernoulli(self.logits).log_prob(x) + log_norm.flatten(-3).sum(-1)
