"""What a pixel may be: three likelihoods by name, each made from a decoder's logits.

Their NLLs are in different currencies: minus a cross-entropy for the Bernoulli, minus the log of
two different densities for the others. Compare an NLL only with those of the same likelihood, and
for normal pixels with a given noise only with those of the same noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from tvae_core.checks import check_known
from tvae_core.models import Pixels
from tvae_core.networks import PixelBernoulli, PixelContinuousBernoulli

LIKELIHOODS = ("bernoulli", "continuous-bernoulli", "normal")
LEVELS = 255.0
NOISE = 0.1  # at the start, where it is learned
MEAN_RANGE = (1e-3, 1 - 1e-3)


def make_pixels(likelihood: str = "bernoulli", noise: float | None = None) -> Pixels:
    """From logits to a distribution of pixels: the option `pixels` of `models.build`.

    "bernoulli": a gray value counts as the probability of white; the NLL is a cross-entropy and
    never below 0. "continuous-bernoulli": a density on [0, 1]. "normal": a normal density around
    sigmoid(logits), whose standard deviation is `noise`, or is learned if that is None.

    The densities have a floor, because a pixel that is black in all images would otherwise be
    described better and better without end. No logit goes beyond +-255, where the mean is one gray
    level from black or white, and no noise falls below 1 / 255, one gray level.

    Raises:
        ValueError: an unknown likelihood, noise below 1 / 255, or for a likelihood without noise.
    """
    check_known("likelihood", likelihood, LIKELIHOODS)
    if likelihood == "normal":
        return NormalPixels(noise)
    if noise is not None:
        raise ValueError(f"only the likelihood 'normal' has noise, not {likelihood!r}; got {noise}")
    return PixelBernoulli if likelihood == "bernoulli" else ContinuousPixels()


class ContinuousPixels(nn.Module):
    """Continuous Bernoulli pixels (Loaiza-Ganem & Cunningham 2019), with logits within +-255."""

    limit: Tensor

    def __init__(self) -> None:
        super().__init__()
        # In the state, so that no model with other pixels takes these weights for its own.
        self.register_buffer("limit", torch.tensor(LEVELS))

    def forward(self, logits: Float[Tensor, "*S C H W"]) -> PixelContinuousBernoulli:
        return PixelContinuousBernoulli(self.limit * (logits / self.limit).tanh())


class NormalPixels(nn.Module):
    """Normal pixels, all with one standard deviation of at least 1 / 255."""

    given: Tensor
    extra: nn.Parameter

    def __init__(self, noise: float | None = None) -> None:
        super().__init__()
        if noise is not None and not noise >= 1 / LEVELS:
            raise ValueError(
                f"noise must be at least 1 / 255, one gray level of pixels in [0, 1]; got {noise}"
            )
        if noise is None:
            self.extra = nn.Parameter(torch.tensor(NOISE).log())
        else:
            self.register_buffer("given", torch.tensor(noise))
        self.learned = noise is None

    @property
    def noise(self) -> Float[Tensor, ""]:
        """The standard deviation; pixels are in [0, 1]."""
        return 1 / LEVELS + self.extra.exp() if self.learned else self.given

    def forward(self, logits: Float[Tensor, "*S C H W"]) -> PixelNormal:
        return PixelNormal(logits, self.noise)


@dataclass(frozen=True)
class PixelNormal:
    """Independent normal pixels with the means sigmoid(logits) and one standard deviation."""

    logits: Float[Tensor, "*S C H W"]
    noise: Float[Tensor, ""]

    @property
    def mean(self) -> Float[Tensor, "*S C H W"]:
        return self.logits.sigmoid()

    @property
    def _normal(self) -> Normal:
        return Normal(self.mean, self.noise, validate_args=False)

    def sample(self) -> Float[Tensor, "*S C H W"]:
        """A random image; its values may leave [0, 1]."""
        return self._normal.sample()

    def log_prob(self, x: Float[Tensor, "*B C H W"]) -> Float[Tensor, "*S"]:
        """log-density of x in nats, summed over the pixels; x broadcasts over leading axes."""
        return self._normal.log_prob(x).flatten(-3).sum(-1)


def best_constant(pixels: Pixels, x: Float[Tensor, "N C H W"]) -> Any:
    """The distribution of pixels, the same for all images, under which these images are likeliest.

    Its means are those of the images, within [0.001, 0.999]; a noise that is learned is that of the
    images around them.
    """
    mean = x.mean(0).clamp(*MEAN_RANGE)
    if isinstance(pixels, NormalPixels):
        noise = (x - mean).square().mean().sqrt().clamp(min=1 / LEVELS)
        return PixelNormal(mean.logit(), noise if pixels.learned else pixels.noise)
    if not isinstance(pixels, ContinuousPixels):
        return pixels(mean.logit())
    low, high = torch.full_like(mean, -LEVELS), torch.full_like(mean, LEVELS)
    for _ in range(40):  # halves the interval that holds the logit, because the mean rises with it
        middle = (low + high) / 2
        below = PixelContinuousBernoulli(middle).mean < mean
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return PixelContinuousBernoulli(low)
