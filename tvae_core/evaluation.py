"""Evaluation of a trained model: reconstruction loss, KL by block, active units and NLL.

Nothing here depends on how the model was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import kl_divergence
from tqdm.auto import tqdm

from tvae_core.data import Images
from tvae_core.models import VAE
from tvae_core.posteriors import parts
from tvae_core.runtime import NAMES, is_live

# Takes images x and the tensors that q(. | x) consists of; returns log-weights of draws from it.
LogWeights = Callable[..., Tensor]

NLL_SAMPLES = 5_000
ROWS = 1_000  # (image, draw) pairs decoded at once, which bounds the memory for any K
ACTIVE: float = NAMES["active_variance"]  # a latent is active above this (Burda et al. 2016)


class Estimate(NamedTuple):
    """A mean and its standard error."""

    mean: float
    se: float


class Terms(NamedTuple):
    """Terms of the ELBO of each image, in nats; recon and an `Ordered` q's KL(z) are by draws."""

    recon: Float[Tensor, "N"]
    kl_z: Float[Tensor, "N"]
    kl_u: Float[Tensor, "N"]

    @property
    def negative_elbo(self) -> Float[Tensor, "N"]:
        return self.recon + self.kl_z + self.kl_u


class Units(NamedTuple):
    """How much each latent is used; z comes first, and `model.split` separates it from u.

    `variance` is the variance over images of the latent's posterior mean; the unit is active if it
    exceeds 0.01 (Burda et al. 2016). `kl` is KL(q || p), averaged over images, in nats.
    """

    variance: Float[Tensor, "D"]
    kl: Float[Tensor, "D"]

    @property
    def active(self) -> Bool[Tensor, "D"]:
        return self.variance > ACTIVE


class NLL(NamedTuple):
    """-log p(x) of each image, estimated from K draws from q, in nats.

    `se` is the delta-method standard error of each image's estimate, too small where `ess`, the
    effective sample size (sum w)^2 / sum w^2, is near 1. `nll_at[i]` is the estimate from the
    first `ks[i]` draws.
    """

    nll: Float[Tensor, "N"]
    se: Float[Tensor, "N"]
    ess: Float[Tensor, "N"]
    ks: tuple[int, ...]
    nll_at: Float[Tensor, "ks N"]


@torch.inference_mode()
def elbo_terms(model: VAE, images: Images, draws: int = 10) -> Terms:
    """Reconstruction loss -log p(x | z, u) and the KL of z and of u, for each image.

    Several draws are averaged, because one unlucky draw for one image can shift the mean over
    thousands. If the model was trained on binary pixels, binarize the images first.
    """
    parts = []
    for x in images.x.split(max(1, ROWS // draws)):
        particles = model.particles(x, draws)
        kl_z, kl_u = model.split(particles.kl)
        parts.append((-particles.log_lik.mean(0), kl_z.sum(-1), kl_u.sum(-1)))
    return Terms(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))


@torch.inference_mode()
def units(model: VAE, images: Images) -> Units:
    """How much the model uses each latent on these images."""
    if len(images) < 2:
        raise ValueError(f"the variance over images needs at least 2 images, got {len(images)}")
    posteriors = [model.posterior(x) for x in images.x.split(ROWS)]
    means = torch.cat([q.mean for q in posteriors]).cpu().double()
    kls = torch.cat([kl_divergence(q, model.prior) for q in posteriors]).cpu().double()
    return Units(means.var(0), kls.mean(0))


@torch.no_grad()  # code traced in inference mode copies a layer's weights for each draw
def nll(
    model: VAE,
    images: Images,
    n_samples: int = NLL_SAMPLES,
    ks: Sequence[int] = (),
    rows: int = ROWS,
    accelerate: Callable[[LogWeights], LogWeights] | None = None,
) -> NLL:
    """Importance-sampled -log p(x), -log 1/K sum_k w_k (Burda et al. 2016, section 5).

    Draws are processed in chunks that are merged by log-add-exp, so memory does not grow with K;
    the encoder runs once per image. In expectation the estimate lies *above* -log p(x), and falls
    as K grows: look at `nll_at` before you trust a number.

    Args:
        n_samples: K, the draws per image.
        ks: numbers of draws, increasing and at most K, at which to record the estimate.
        rows: (image, draw) pairs decoded at once.
        accelerate: returns a faster version of the function that computes a chunk's log-weights,
            with the same results up to rounding: see `tvae_core.experiments.acceleration`.
    """
    stops = [*ks, *([n_samples] if not ks or ks[-1] != n_samples else [])]
    if any(a >= b for a, b in zip([0, *stops], stops, strict=False)):
        raise ValueError(f"ks must increase, from 1 or more to n_samples; got {ks=}, {n_samples=}")
    per_chunk = min(n_samples, max(1, rows // 4))
    per_batch = max(1, rows // per_chunk)

    def log_w(x: Tensor, *tensors: Tensor) -> Tensor:
        """log w of one chunk of draws from q(. | x), given the tensors that it consists of."""
        return model.particles(x, per_chunk, model.encoder.from_parts(*tensors)).log_w

    fast_log_w = accelerate(log_w) if accelerate is not None else None
    # One tensor for all images, made with the first batch: keeping a small tensor from each batch
    # would fragment the memory that the large temporary ones use.
    sums = None
    bar = tqdm(total=len(images), desc=f"NLL-{n_samples}", unit="image", disable=not is_live())
    for start in range(0, len(images), per_batch):
        x = images[start : start + per_batch].x
        batch, n_weights = _stream(model, x, stops, per_chunk, fast_log_w)
        if sums is None:
            sums = batch.new_empty(len(batch), len(images))
        sums[:, start : start + per_batch] = batch
        bar.update(len(x))
    bar.close()
    assert sums is not None, "there are images"
    log_w1, log_w2, at = sums[0].cpu(), sums[1].cpu(), sums[2:].cpu()
    log_ess = 2 * log_w1 - log_w2
    return NLL(
        nll=at[-1],
        se=(torch.exp(-log_ess) - 1 / n_weights).clamp(min=0).sqrt(),
        ess=log_ess.exp(),
        ks=tuple(stops),
        nll_at=at,
    )


def _stream(
    model: VAE,
    x: Float[Tensor, "B C H W"],
    stops: Sequence[int],
    per_chunk: int,
    fast_log_w: LogWeights | None,
) -> tuple[Float[Tensor, "rows B"], int]:
    """Rows: log sum w and log sum w^2 over all draws, then -log mean w at each stop; how many w.

    `fast_log_w`, if given, computes the log-weights of full chunks of `per_chunk` draws.
    """
    posterior = model.posterior(x)
    powers = torch.tensor([1.0, 2.0], device=x.device).view(2, 1, 1)
    log_sums = torch.full((2, len(x)), -math.inf, device=x.device)  # of w and of w^2
    drawn, weights, at = 0, 0, []
    for stop in stops:
        while drawn < stop:
            k = min(per_chunk, stop - drawn)
            if fast_log_w is not None and k == per_chunk:
                log_w = fast_log_w(x, *parts(posterior))
            else:
                log_w = model.particles(x, k, posterior).log_w
            log_sums = torch.logaddexp(log_sums, (powers * log_w).logsumexp(1))
            drawn, weights = drawn + k, weights + len(log_w)
        at.append(math.log(weights) - log_sums[0])
    return torch.stack([*log_sums, *at]), weights


def mean_se(values: Float[Tensor, "N"]) -> Estimate:
    """Mean over images and its standard error, the sample standard deviation over sqrt(N).

    The error describes variation between test sets of this size, not between training runs.
    """
    values = values.double()
    return Estimate(values.mean().item(), (values.std() / math.sqrt(len(values))).item())
