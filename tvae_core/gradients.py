"""Signal and noise of gradient estimates, by block: encoder, its z and u heads, and decoder."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tvae_core.estimators import Estimator
from tvae_core.models import VAE


class SNR(NamedTuple):
    """Signal-to-noise ratio of the gradient of one block of parameters.

    `mean` and `median`, over the block's parameters, are of |mean gradient| / standard deviation
    (Rainforth et al. 2018). From R repeats, a parameter with no signal at all still shows
    sqrt(2 / (pi R)) on average, which is `floor`. `signal` is the squared norm of the block's mean
    gradient minus the expected contribution of noise, so it can be negative; `noise` is the sum of
    the variances. `n` counts the parameters used: those whose gradient never varied (such as 0
    behind a dead unit) are left out.
    """

    mean: float
    median: float
    floor: float
    signal: float
    noise: float
    n: int

    @property
    def whole(self) -> float:
        """The block as one vector: norm of the mean over the root of the summed variances."""
        return math.sqrt(max(self.signal, 0.0) / self.noise) if self.noise else math.inf


def gradient_snr(
    model: VAE, x: Float[Tensor, "B C H W"], estimator: Estimator, k: int, repeats: int
) -> dict[str, SNR]:
    """Signal and noise of each block's gradient, for a fixed batch with k draws per image.

    The gradient is that of the batch mean, and repeats differ only in their draws from q. Means and
    variances are updated online, so memory does not grow with `repeats`. Noise falls with the size
    of the batch: compare only values for equal batches.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    size = sum(parameter.numel() for parameter in parameters)
    mean, spread = torch.zeros(2, size, dtype=torch.float64)  # on the CPU: some GPUs lack float64
    for done in range(1, repeats + 1):
        value = estimator(model.particles(x, k)).mean()
        parts = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        new = torch.cat([part.flatten() for part in parts]).cpu().double()
        off = new - mean  # Welford: sums of squares lose variances that are small beside the mean
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
    """For each block, a mask over all parameters that are trained, flattened and concatenated.

    "encoder" and "decoder" are complete; "encoder z" and "encoder u" are the rows of the encoder's
    last layers that compute q's mean and deviation of z and of u. A plain model has no "encoder u".
    """

    def mask(rows: dict[int, slice]) -> Bool[Tensor, "P"]:
        """True at the rows given for each parameter, by its id."""
        parts = []
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            inside = torch.zeros(parameter.shape or (1,), dtype=torch.bool)
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
