"""Estimators of a bound's gradient, from particles.

Each maps `Particles` to one value per image. The value is an estimate of its bound, and calling
`backward()` on it gives that estimator's gradient.

All of them take a KL weight, which multiplies log q - log p of the latents. Below 1 the value is no
bound on log p(x); a warm-up starts there (Bowman et al. 2016, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from tvae_core import bounds
from tvae_core.particles import Particles
from tvae_core.posteriors import fixed

Bound = Callable[[Tensor], Tensor]
Weight = Tensor | float


class Estimator(Protocol):
    """What `training.fit` takes: particles and a KL weight in, one value per image out."""

    def __call__(self, particles: Particles, kl_weight: Weight = 1.0, /) -> Float[Tensor, "*B"]: ...


def log_weights(particles: Particles, kl_weight: Weight = 1.0) -> Float[Tensor, "K *B"]:
    """log w_k, with log q - log p of the latents multiplied by the KL weight."""
    return particles.log_lik - kl_weight * (particles.log_q - particles.log_prior)


def path_log_weights(particles: Particles, kl_weight: Weight = 1.0) -> Float[Tensor, "K *B"]:
    """The same values, with the parameters of q held fixed inside log q."""
    return particles.log_lik - kl_weight * (particles.log_q_path - particles.log_prior)


def reparameterized(bound: Bound) -> Estimator:
    """The bound of the log-weights, differentiated through the draws (Kingma & Welling 2014)."""

    def estimate(particles: Particles, kl_weight: Weight = 1.0) -> Float[Tensor, "*B"]:
        return bound(log_weights(particles, kl_weight))

    return estimate


def analytic_kl(particles: Particles, kl_weight: Weight = 1.0) -> Float[Tensor, "*B"]:
    """The ELBO with its KL term in closed form (Kingma & Welling 2014, eq. 10).

    Where q is drawn in order, u then z, the KL of z is a mean over the draws of u.

    The estimate has the expectation of `reparameterized(bounds.elbo)`, without the noise of an
    estimated KL. `bounds.iwae` has no such closed form.
    """
    return bounds.elbo(particles.log_lik) - kl_weight * particles.kl.sum(-1)


def stl(particles: Particles, kl_weight: Weight = 1.0) -> Float[Tensor, "*B"]:
    """Sticking the landing: the ELBO, its gradient without the score term (Roeder et al. 2017).

    The score term has expectation zero, so the gradient stays unbiased without it, and it vanishes
    for every draw where q is the exact posterior. Leaving it out of the gradient of `bounds.iwae`
    gives a biased estimate: use `dreg` there.
    """
    return bounds.elbo(path_log_weights(particles, kl_weight))


def dreg(particles: Particles, kl_weight: Weight = 1.0) -> Float[Tensor, "*B"]:
    """The IWAE bound with the doubly reparameterized gradient (Tucker et al. 2019, eq. 8).

    With normalised weights v_k = w_k / sum_j w_j, the decoder's gradient is the usual
    sum_k v_k grad log w_k; the encoder's is
    sum_k v_k^2 (d log w_k / d latents_k) (d latents_k / d parameters). It is unbiased, and has no
    noise where q is the exact posterior. With a KL weight b below 1 the score term is multiplied
    by b as well, and v_k^2 becomes v_k (1 - b + b v_k). Draw fresh particles for each backward
    pass.
    """
    log_w = path_log_weights(particles, kl_weight)
    normalised = log_w.softmax(0).detach()
    if particles.latents.requires_grad:
        # The surrogate below multiplies the encoder's gradient by v_k; this is the second factor.
        factor = 1 - kl_weight * (1 - normalised)
        particles.latents.register_hook(lambda gradient: factor.unsqueeze(-1) * gradient)
    surrogate = (normalised * log_w).sum(0)
    return bounds.iwae(log_w.detach()) + surrogate - surrogate.detach()


def path_derivative(bound: Bound) -> Estimator:
    """A bound's gradient without its score term: sticking the landing, applied to any bound.

    Biased for every bound except the ELBO, however many images or steps you average over: use it to
    look at that bias, not to train. For the ELBO it is `stl`.
    """

    def estimate(particles: Particles, kl_weight: Weight = 1.0) -> Float[Tensor, "*B"]:
        return bound(path_log_weights(particles, kl_weight))

    return estimate


def doubly_reparameterized(bound: Bound) -> Estimator:
    """A bound with the doubly reparameterized gradient; for `bounds.iwae` it is `dreg`.

    The derivation of Tucker et al. (2019) holds for any smooth function of log-weights. With

        slope_k = d bound / d log w_k   and   curvature_k = d^2 bound / d (log w_k)^2,

    the decoder's gradient is the usual sum_k slope_k grad log w_k, and the encoder's is
    sum_k (slope_k - curvature_k) (d log w_k / d latents_k) (d latents_k / d parameters). In terms
    of normalised weights v_k that factor is v_k^2 for IWAE, 1/K (STL) for the ELBO, v_k^2 / m
    within each group of MIWAE, and beta / K + (1 - beta) v_k^2 for CIWAE. A KL weight below 1
    multiplies the score term, and so the curvature.

    Computes K^2 numbers per image: cheap beside a decoder, up to hundreds of draws. Draw fresh
    particles for each backward pass.
    """

    def estimate(particles: Particles, kl_weight: Weight = 1.0) -> Float[Tensor, "*B"]:
        log_w = path_log_weights(particles, kl_weight)
        slope, curvature = slope_and_curvature(bound, log_w.detach())
        if particles.latents.requires_grad:
            # The surrogate below multiplies the encoder's gradient by the slope. Where a slope has
            # underflowed to 0, that gradient is 0 as well.
            factor = 1 - kl_weight * (curvature / slope).nan_to_num(0.0)
            particles.latents.register_hook(lambda gradient: factor.unsqueeze(-1) * gradient)
        surrogate = (slope * log_w).sum(0)
        return bound(log_w.detach()) + surrogate - surrogate.detach()

    return estimate


def slope_and_curvature(
    bound: Bound, log_w: Float[Tensor, "K *B"]
) -> tuple[Float[Tensor, "K *B"], Float[Tensor, "K *B"]]:
    """First and second derivative of a bound with respect to each log-weight alone."""
    slope = torch.func.grad(lambda log_w: bound(log_w).sum())
    # Each step moves one particle of every image at once, because a bound never mixes images.
    steps = torch.eye(len(log_w), dtype=log_w.dtype, device=log_w.device)
    steps = steps.view(*steps.shape, *[1] * (log_w.ndim - 1)).expand(-1, *log_w.shape)
    at, turn = torch.func.vjp(slope, log_w)[:2]
    (changes,) = torch.func.vmap(turn)(steps)
    return at, changes.diagonal().movedim(-1, 0)


def paired(encoder: Estimator, decoder: Estimator) -> Estimator:
    """One estimator for the encoder's parameters, another for the decoder's, from the same draws.

    PIWAE(m, k) of Rainforth et al. (2018) is MIWAE(m, k) for the encoder and the IWAE
    bound of all m k draws for the decoder:

        paired(reparameterized(partial(bounds.miwae, m=m)), reparameterized(bounds.iwae))

    The value is the decoder's. Parameters that q's mean and deviation depend on count as the
    encoder's, all others as the decoder's. Costs a second backward pass through the decoder. Draw
    fresh particles for each backward pass.

    Raises:
        TypeError: from the estimator, for a posterior that is drawn in order, whose normal for z is
            not fixed before u is drawn.
    """

    def estimate(particles: Particles, kl_weight: Weight = 1.0) -> Float[Tensor, "*B"]:
        q = particles.q
        if not isinstance(q, Normal):
            raise TypeError(
                "paired estimators need a posterior that is one normal, q(z, u | x); this model "
                "draws z after u, so train it with one estimator, for example estimators.dreg"
            )
        encoder_held = particles._replace(
            latents=particles.latents.detach(),
            log_prior=particles.log_prior.detach(),
            log_q=particles.log_q.detach(),
            kl=particles.kl.detach(),
            q=fixed(q),
        )
        value = decoder(encoder_held, kl_weight)
        if not (torch.is_grad_enabled() and particles.latents.requires_grad):
            return value
        ends = [end for end in (q.loc, q.scale) if end.requires_grad]
        slopes = torch.autograd.grad(encoder(particles, kl_weight).sum(), ends, retain_graph=True)
        # log_lik still depends on the latents: stop the decoder's gradient from going through them.
        particles.latents.register_hook(torch.zeros_like)
        pairs = zip(slopes, ends, strict=True)
        surrogate = sum(((slope * end).sum(-1) for slope, end in pairs), torch.zeros_like(value))
        return value + surrogate - surrogate.detach()

    return estimate
