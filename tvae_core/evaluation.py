"""What a trained model is worth: reconstruction loss, KL by block, and the importance-sampled NLL.

Nothing here knows how a model was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from tqdm.auto import tqdm

from tvae_core.data import Images
from tvae_core.models import VAE
from tvae_core.runtime import NAMES, is_live

# The log-weights of draws for images x, from x and from the mean and deviation of q.
LogWeights = Callable[[Tensor, Tensor, Tensor], Tensor]

NLL_SAMPLES = 5_000
ROWS = 1_000  # (image, draw) pairs decoded at once; bounds the memory whatever K is
ACTIVE: float = NAMES["active_variance"]  # of an active latent's mean, at least (Burda et al. 2016)


class Estimate(NamedTuple):
    """A mean and its standard error."""

    mean: float
    se: float


class Terms(NamedTuple):
    """Per-image terms of the ELBO, in nats; `recon` is a mean over draws of q."""

    recon: Float[Tensor, "N"]
    kl_z: Float[Tensor, "N"]
    kl_u: Float[Tensor, "N"]

    @property
    def negative_elbo(self) -> Float[Tensor, "N"]:
        return self.recon + self.kl_z + self.kl_u


class Units(NamedTuple):
    """Each latent's use, z first: `model.split` cuts the fields into z's and u's.

    `variance` is that of the posterior mean over images, and a unit is active where it exceeds 0.01
    (Burda et al. 2016). `kl` is KL(q || p) of the latent, a mean over images, in nats.
    """

    variance: Float[Tensor, "D"]
    kl: Float[Tensor, "D"]

    @property
    def active(self) -> Bool[Tensor, "D"]:
        return self.variance > ACTIVE


class NLL(NamedTuple):
    """-log p(x) of each image, estimated from K draws of q, in nats.

    `se` is the delta-method standard error of each image's estimate, `ess` the effective sample
    size (sum w)^2 / sum w^2. `nll_at[i]` is the estimate from the first `ks[i]` draws.
    """

    nll: Float[Tensor, "N"]
    se: Float[Tensor, "N"]
    ess: Float[Tensor, "N"]
    ks: tuple[int, ...]
    nll_at: Float[Tensor, "ks N"]


def rows_at_once(device: torch.device) -> int:
    """(image, draw) pairs to decode at once: what a CPU's caches hold, or a GPU's memory.

    A GPU is busy only with many of them; each takes some ten arrays of an image's size, in all a
    tenth of the memory.
    """
    if device.type != "cuda":
        return ROWS
    return int(torch.cuda.get_device_properties(device).total_memory) // 300_000


@torch.inference_mode()
def elbo_terms(model: VAE, images: Images, draws: int = 10, rows: int = ROWS) -> Terms:
    """Reconstruction loss -log p(x | z, u) and the KL of z and of u, for each image.

    Several draws, as a single unlucky one of one image can move the mean over thousands. Binarize
    the images beforehand where the model was trained on binary pixels.
    """
    parts = []
    for x in images.x.split(max(1, rows // draws)):
        particles = model.particles(x, draws)
        kl_z, kl_u = model.split(particles.kl)
        parts.append((-particles.log_lik.mean(0), kl_z.sum(-1), kl_u.sum(-1)))
    return Terms(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))


@torch.inference_mode()
def units(model: VAE, images: Images, rows: int = ROWS) -> Units:
    """The use that a model makes of its latents on these images.

    Raises:
        ValueError: fewer than two images, which have no variance.
    """
    if len(images) < 2:
        raise ValueError(f"the variance over images needs at least 2 of them, got {len(images)}")
    posteriors = [model.posterior(x) for x in images.x.split(rows)]
    means = torch.cat([q.mean for q in posteriors]).cpu().double()
    kls = torch.cat([kl_divergence(q, model.prior) for q in posteriors]).cpu().double()
    return Units(means.var(0), kls.mean(0))


@torch.no_grad()  # what is traced in inference mode copies a layer's weights for each draw
def nll(
    model: VAE,
    images: Images,
    n_samples: int = NLL_SAMPLES,
    ks: Sequence[int] = (),
    rows: int = ROWS,
    accelerate: Callable[[LogWeights], LogWeights] | None = None,
) -> NLL:
    """Importance-sampled -log p(x), -log 1/K sum_k w_k (Burda et al. 2016, section 5).

    The draws come in chunks which are merged by log-add-exp, so memory does not grow with K, and
    the encoder runs once per image. In expectation the estimate lies *above* -log p(x), and falls
    with K: look at `nll_at` before you trust a number.

    Args:
        n_samples: K, the draws per image.
        ks: numbers of draws, increasing and at most K, at which to note the estimate.
        rows: (image, draw) pairs decoded at once.
        accelerate: makes a faster version of the function that computes a chunk's log-weights, with
            the same results up to rounding: see `tvae_core.experiments.acceleration`.

    Raises:
        ValueError: n_samples < 1, or ks that do not increase from >= 1 to <= K.
    """
    stops = [*ks, *([n_samples] if not ks or ks[-1] != n_samples else [])]
    if n_samples < 1 or any(a >= b for a, b in zip([0, *stops], stops, strict=False)):
        raise ValueError(f"need 1 <= ks, increasing, <= n_samples; got {ks=}, {n_samples=}")
    per_chunk = min(n_samples, max(1, rows // 4))
    per_batch = max(1, rows // per_chunk)

    def log_w(x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """log w of one chunk of draws from q(. | x), a normal with this mean and deviation."""
        return model.particles(x, per_chunk, Normal(mean, deviation, validate_args=False)).log_w

    fast_log_w = accelerate(log_w) if accelerate is not None else None
    # One tensor for all images, made with the first batch: small ones kept from each batch would
    # lie between the large ones that come and go, and keep that memory from being used again.
    sums = None
    bar = tqdm(total=len(images), desc=f"NLL-{n_samples}", unit="image", disable=not is_live())
    for start in range(0, len(images), per_batch):
        x = images[start : start + per_batch].x
        batch = _stream(model, x, stops, per_chunk, fast_log_w)
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
        se=(torch.exp(-log_ess) - 1 / n_samples).clamp(min=0).sqrt(),
        ess=log_ess.exp(),
        ks=tuple(stops),
        nll_at=at,
    )


def _stream(
    model: VAE,
    x: Float[Tensor, "B 1 H W"],
    stops: Sequence[int],
    per_chunk: int,
    fast_log_w: LogWeights | None,
) -> Float[Tensor, "rows B"]:
    """Rows: log sum w and log sum w^2 over all draws, then -log mean w at each stop.

    `fast_log_w`, if given, computes the log-weights of `per_chunk` draws.
    """
    posterior = model.posterior(x)
    powers = torch.tensor([1.0, 2.0], device=x.device).view(2, 1, 1)
    log_sums = torch.full((2, len(x)), -math.inf, device=x.device)  # of w and of w^2
    drawn, at = 0, []
    for stop in stops:
        while drawn < stop:
            k = min(per_chunk, stop - drawn)
            if fast_log_w is not None and k == per_chunk:
                log_w = fast_log_w(x, posterior.mean, posterior.stddev)
            else:
                log_w = model.particles(x, k, posterior).log_w
            log_sums = torch.logaddexp(log_sums, (powers * log_w).logsumexp(1))
            drawn += k
        at.append(math.log(drawn) - log_sums[0])
    return torch.stack([*log_sums, *at])


def mean_se(values: Float[Tensor, "N"]) -> Estimate:
    """Mean over images and its standard error, the sample deviation over sqrt(N).

    It says how far another test set of this size would move the mean, not how far another training
    run would.
    """
    values = values.double()
    return Estimate(values.mean().item(), (values.std() / math.sqrt(len(values))).item())
