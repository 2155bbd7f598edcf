"""How far an importance-sampled NLL can be trusted, and a proper density for gray pixels.

Like `evaluation`, this does not depend on how the model was trained.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal
from tqdm.auto import tqdm

from tvae_core.data import Images
from tvae_core.models import VAE, check_images
from tvae_core.networks import PixelContinuousBernoulli
from tvae_core.particles import Particles
from tvae_core.posteriors import Ordered
from tvae_core.runtime import is_live

ROWS = 1_000  # (image, draw) pairs decoded at once
KS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)


class NLLCurve(NamedTuple):
    """NLL(k) of each of N images, for several numbers of draws k, in nats.

    For each k the draws are cut into blocks of k, and every field is a mean over these blocks, so
    that small k are estimated as precisely as large ones. Two fields estimate the bias
    E[NLL(k)] + log p(x) from the draws of each block: `jackknife` (Nowozin 2018; NaN at k = 1,
    because leaving out the only draw leaves none) and `delta`, Var(w) / (2 k E[w]^2), the leading
    term for large k. `ess` is (sum w)^2 / sum w^2. `dominated` is the fraction of blocks in which
    one draw outweighs all the others together.
    """

    ks: tuple[int, ...]
    nll: Float[Tensor, "ks N"]
    jackknife: Float[Tensor, "ks N"]
    delta: Float[Tensor, "ks N"]
    ess: Float[Tensor, "ks N"]
    dominated: Float[Tensor, "ks N"]


@torch.inference_mode()
def nll_curve(
    model: VAE | Mixture, images: Images, ks: Sequence[int] = KS, rows: int = ROWS
) -> NLLCurve:
    """NLL as a function of the number of draws, from ks[-1] draws from q for each image.

    Memory holds the log-weights of a few images at a time, 8 bytes per draw, and `rows` latents to
    decode, whatever the number of draws or images.
    """
    _check(ks)
    parts = []
    bar = tqdm(total=len(images), desc=f"NLL-{ks[-1]}", unit="image", disable=not is_live())
    for log_w in log_weights(model, images, ks[-1], rows):
        parts.append(torch.stack(curve_of(log_w, ks)[1:]))
        bar.update(log_w.shape[1])
    bar.close()
    return NLLCurve(tuple(ks), *torch.cat(parts, -1))


def curve_of(log_w: Float[Tensor, "n N"], ks: Sequence[int] = KS) -> NLLCurve:
    """The same from given log-weights, n >= ks[-1] draws for each image."""
    _check(ks)
    if len(log_w) < ks[-1]:
        raise ValueError(f"need at least ks[-1] = {ks[-1]} draws, got {len(log_w)}")
    return NLLCurve(tuple(ks), *torch.stack([_at(log_w, k) for k in ks], 1))


def _check(ks: Sequence[int]) -> None:
    if not ks or any(a >= b for a, b in zip([0, *ks], ks, strict=False)):
        raise ValueError(f"the numbers of draws must be at least 1 and increase, got {ks=}")


@torch.no_grad()
def log_weights(
    model: VAE | Mixture, images: Images, n: int, rows: int = ROWS
) -> Iterator[Float[Tensor, "n B"]]:
    """log w of n draws from q for all images, a few images at a time, in float64."""
    for x in images.x.split(max(1, rows // n)):
        q: Any = model.posterior(x)
        chunks = torch.arange(n).split(max(1, rows // len(x)))
        # On the CPU, because some GPUs lack float64.
        drawn = [model.particles(x, len(some), q).log_w.cpu().double() for some in chunks]
        log_w = torch.cat(drawn)  # n, or with quarter turns 4 n: a draw's weight is their mean
        yield log_w.unflatten(0, (n, -1)).logsumexp(1) - math.log(len(log_w) // n)


def _at(log_w: Float[Tensor, "n B"], k: int) -> Float[Tensor, "5 B"]:
    """The rows of an `NLLCurve` at k: means over blocks of k draws."""
    blocks = log_w[: len(log_w) // k * k].unflatten(0, (-1, k))  # (blocks, k, B)
    total = blocks.logsumexp(1)
    share = (blocks - total.unsqueeze(1)).exp()
    largest, place = share.max(1)
    inverse_ess = share.square().sum(1)
    rows = [
        math.log(k) - total,
        _jackknife(blocks, total, share, place.unsqueeze(1)),
        (inverse_ess - 1 / k) / 2,
        1 / inverse_ess,
        (largest > 0.5).double(),
    ]
    return torch.stack(rows).mean(1)


def _jackknife(
    blocks: Float[Tensor, "blocks k B"],
    total: Float[Tensor, "blocks B"],
    share: Float[Tensor, "blocks k B"],
    place: Tensor,
) -> Float[Tensor, "blocks B"]:
    """The jackknife's bias: (k - 1) times the mean leave-one-out NLL minus NLL(k)."""
    k = blocks.shape[1]
    if k == 1:
        return torch.full_like(total, math.nan)
    # Leaving out draw i changes log sum w by log(1 - share_i). For the largest share, 1 - share may
    # have lost its digits, so the sum of the other weights is computed directly.
    change = torch.log1p(-share.scatter(1, place, 0.0))
    without = blocks.scatter(1, place, -math.inf).logsumexp(1) - total
    change = change.scatter(1, place, without.unsqueeze(1))
    return (k - 1) * (math.log((k - 1) / k) - change.mean(1))


def with_gray_density(model: VAE) -> VAE:
    """The same model with continuous Bernoulli pixels, to score gray images by a proper density.

    Parameters are shared. `evaluation.nll` then gives negative log-densities: with 784 pixels they
    are far below zero, and can only be compared with each other.

    Raises:
        TypeError: a model of a class of its own, such as one with quarter turns.
    """
    if type(model) is not VAE:
        raise TypeError(f"with_gray_density takes a plain VAE, got {type(model).__name__}")
    gray = _ContinuousPixels(model.decoder)
    return VAE(model.encoder, gray, model.shape, model.dim_z, model.dim_u).eval()


class _ContinuousPixels(nn.Module):
    """A decoder whose Bernoulli pixels become continuous Bernoulli ones with the same logits."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: Float[Tensor, "*S D"]) -> PixelContinuousBernoulli:
        return PixelContinuousBernoulli(self.decoder(latents).logits)


class Mixture:
    """A model whose draws come from several encoders in turn: multiple importance sampling.

    Each draw is weighted by p(x, latents) over the density of the whole mixture, wherever it came
    from (the balance heuristic of Veach & Guibas 1995). The weights are unbiased, and where one
    encoder misses a part of the posterior another can step in. `evaluation.nll`, `nll_curve` and
    `log_weights` take a mixture in place of a model. The encoders are best fitted to
    `model.decoder` on the very images to be evaluated: whatever the encoders, the estimated NLL is
    too high in expectation, never too low.
    """

    def __init__(self, model: VAE, encoders: Sequence[Callable[[Tensor], Any]]) -> None:
        if type(model).particles is not VAE.particles:
            raise TypeError(f"a Mixture draws from a models.VAE, not from a {type(model).__name__}")
        self.model, self.encoders = model, encoders

    def posterior(self, x: Float[Tensor, "*B C H W"]) -> list[Normal | Ordered]:
        """The posterior of each encoder."""
        check_images(x, self.model.shape)
        return [encoder(x) for encoder in self.encoders]

    def particles(
        self,
        x: Float[Tensor, "*B C H W"],
        k: int = 1,
        posterior: list[Normal | Ordered] | None = None,
    ) -> Particles:
        """k draws for each image, as evenly as possible from each encoder.

        `log_q` is the density of the mixture in these proportions, and `kl` the mean of
        log q - log p over the draws, for all latents together.
        """
        qs = self.posterior(x) if posterior is None else posterior
        shares = [len(range(i, k, len(qs))) for i in range(len(qs))]
        # The encoders take turns, so that any run of draws comes from all of them.
        turn = torch.cat([torch.arange(i, k, len(qs)) for i in range(len(qs))]).argsort()
        drawn = torch.cat([q.rsample((n,)) for q, n in zip(qs, shares, strict=True) if n])
        latents = drawn[turn]
        log_qs = torch.stack(
            [
                q.log_prob(latents).sum(-1) + math.log(n / k)
                for q, n in zip(qs, shares, strict=True)
                if n
            ]
        )
        log_q, log_prior = log_qs.logsumexp(0), self.model.prior.log_prob(latents).sum(-1)
        return Particles(
            latents=latents,
            log_lik=self.model.decoder(latents).log_prob(x),
            log_prior=log_prior,
            log_q=log_q,
            kl=(log_q - log_prior).mean(0).unsqueeze(-1),
            q=qs[0],
        )


def fit_proposal(
    model: VAE,
    x: Float[Tensor, "N C H W"],
    steps: int = 600,
    k: int = 50,
    batch: int = 50,
    rate: float = 1e-3,
) -> nn.Module:
    """A second encoder for a trained decoder, fitted to the images that it is used for.

    It starts as a copy of the model's encoder and lowers KL(p(z, u | x) || q), whose expectation is
    over the posterior, estimated from k weighted draws of both encoders: the "wake phase" for q of
    Bornschein & Bengio (2015). That KL is large where q is too narrow, so the copy learns to cover
    what the model's encoder misses. The model itself is not changed.

    Args:
        x: the images to be evaluated; overfitting to them is what a proposal is for.
        steps: Adam steps, each on `batch` images; the learning rate falls linearly from `rate`.
    """
    encoder = copy.deepcopy(model.encoder)
    both = Mixture(model, [model.encoder, encoder])
    optimizer = torch.optim.Adam(encoder.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in tqdm(range(steps), desc="fitting a proposal", disable=not is_live()):
        some = x[torch.randperm(len(x), device=x.device)[:batch]]
        with torch.no_grad():
            drawn = both.particles(some, k)
        log_q = encoder(some).log_prob(drawn.latents).sum(-1)
        loss = -(drawn.log_w.softmax(0) * log_q).sum(0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return encoder


def pareto_k(log_w: Float[Tensor, "n N"]) -> Float[Tensor, "N"]:
    """Pareto k-hat of each image's weights: how heavy their upper tail is.

    A generalised Pareto distribution is fitted to the largest min(n / 5, 3 sqrt(n)) weights
    (Vehtari et al. 2024). Weights with shape k have finite moments only below order 1 / k: from 0.5
    their variance is infinite, and above 0.7 so many draws would be needed that the mean of the
    weights, and with it the NLL, is not to be trusted. A low k-hat is no proof: weights say
    nothing of a part of the posterior that all draws miss.

    Raises:
        ValueError: fewer than 25 draws, weights that are NaN, or an image whose largest are equal.
    """
    from scipy import stats  # imported here because it takes half a second

    n, highest = len(log_w), log_w.max(0).values
    if n < 25:
        raise ValueError(f"the tail of the weights needs at least 25 draws, got {n}")
    size = math.ceil(min(n / 5, 3 * math.sqrt(n)))
    if not highest.isfinite().all():
        raise ValueError("an image's weights are NaN or infinite: check the model's parameters")
    largest = (log_w - highest).double().exp().sort(0).values[-size - 1 :]
    excess = (largest[1:] - largest[:1]).cpu().numpy()
    if not (excess.max(0) > 0).all():
        raise ValueError("the largest weights of an image are all equal: their tail has no shape")
    return torch.tensor(
        [stats.genpareto.fit(column / column.max(), floc=0)[0] for column in excess.T]
    )
