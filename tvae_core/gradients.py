"""Signal and noise of gradient estimates, apart for the encoder, its z and u heads, the decoder."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tvae_core.estimators import Estimator
from tvae_core.models import VAE


class SNR(NamedTuple):
    """Signal to noise of the gradient of one block of parameters.

    `mean` and `median` are over the block's parameters, of |mean gradient| / standard deviation
    (Rainforth et al. 2018). Estimated from R repeats, a parameter without any signal shows
    sqrt(2 / (pi R)) on average: that `floor` is what "nothing" looks like. `signal` is the squared
    length of the block's mean gradient, freed of the noise's share in it, so that it may come out
    below 0, and `noise` the sum of its variances. `n` parameters were counted; those whose gradient
    was the same each time (behind a dead unit, 0) were not.
    """

    mean: float
    median: float
    floor: float
    signal: float
    noise: float
    n: int

    @property
    def whole(self) -> float:
        """The block as one vector: length of the mean over root of the summed variances."""
        return math.sqrt(max(self.signal, 0.0) / self.noise) if self.noise else math.inf


def gradient_snr(
    model: VAE, x: Float[Tensor, "B 1 H W"], estimator: Estimator, k: int, repeats: int
) -> dict[str, SNR]:
    """Signal and noise of each block's gradient of the mean over a fixed batch, k draws an image.

    The repeats differ in their draws from q alone. Means and variances are kept up while they come
    in, so memory does not grow with repeats. Noise falls with the batch: compare values of equal
    batches only.

    Raises:
        ValueError: fewer than two repeats, which have no spread.
    """
    if repeats < 2:
        raise ValueError(f"the spread of gradients needs at least 2 repeats, got {repeats}")
    parameters = list(model.parameters())
    size = sum(parameter.numel() for parameter in parameters)
    mean, spread = torch.zeros(2, size, dtype=torch.float64)  # on the CPU: some GPUs lack float64
    for done in range(1, repeats + 1):
        value = estimator(model.particles(x, k)).mean()
        parts = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        new = torch.cat([part.flatten() for part in parts]).cpu().double()
        off = new - mean  # Welford's way: sums of squares would lose what is small beside the mean
        mean += off / done
        spread += off * (new - mean)
    variance = spread / (repeats - 1)
    return {
        name: _snr(mean[members], variance[members], repeats)
        for name, members in blocks(model).items()
    }


def _snr(mean: Float[Tensor, "P"], variance: Float[Tensor, "P"], repeats: int) -> SNR:
    noisy = variance > 0
    mean, variance = mean[noisy], variance[noisy]
    ratio = mean.abs() / variance.sqrt()
    noise = variance.sum()
    return SNR(
        mean=ratio.mean().item(),
        median=ratio.median().item(),
        floor=math.sqrt(2 / (math.pi * repeats)),
        signal=(mean.square().sum() - noise / repeats).item(),
        noise=noise.item(),
        n=len(mean),
    )


def blocks(model: VAE) -> dict[str, Bool[Tensor, "P"]]:
    """Which of the model's parameters, flattened one after the other, belong to which block.

    "encoder" and "decoder" are whole; "encoder z" and "encoder u" are the rows of the encoder's
    last layers that give q's mean and deviation of z and of u. A plain model has no "encoder u".
    """

    def mask(rows: dict[int, slice]) -> Bool[Tensor, "P"]:
        """True at the given rows of each parameter, which is named by its id."""
        parts = []
        for parameter in model.parameters():
            inside = torch.zeros(parameter.shape, dtype=torch.bool)
            if id(parameter) in rows:
                inside[rows[id(parameter)]] = True
            parts.append(inside.flatten())
        return torch.cat(parts)

    def whole(part: nn.Module) -> dict[int, slice]:
        return {id(parameter): slice(None) for parameter in part.parameters()}

    masks = {"encoder": mask(whole(model.encoder))}
    for name, head in model.encoder.heads().items():
        masks[f"encoder {name}"] = mask({id(p): r for layer, r in head for p in layer.parameters()})
    return {**masks, "decoder": mask(whole(model.decoder))}
