"""Gradient estimators: how the gradient of a bound is had from particles.

Each maps `Particles` to one value per image. The value is an estimate of its bound, and
`backward()` through it gives that estimator's gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from tvae_core import bounds
from tvae_core.particles import Particles

Bound = Callable[[Tensor], Tensor]
Estimator = Callable[[Particles], Tensor]


def reparameterized(bound: Bound) -> Estimator:
    """The bound of the log-weights, differentiated through the draws (Kingma & Welling 2014)."""

    def estimate(particles: Particles) -> Float[Tensor, "*B"]:
        return bound(particles.log_w)

    return estimate


def analytic_kl(particles: Particles) -> Float[Tensor, "*B"]:
    """The ELBO with its KL term in closed form (Kingma & Welling 2014, eq. 10).

    Same expectation as `reparameterized(bounds.elbo)`; the KL adds no noise. There is no such
    closed form for `bounds.iwae`.
    """
    return bounds.elbo(particles.log_lik) - particles.beta * particles.kl.sum(-1)


def stl(particles: Particles) -> Float[Tensor, "*B"]:
    """Sticking the landing: the ELBO, its gradient without the score term (Roeder et al. 2017).

    The left-out term has expectation zero, so the gradient stays unbiased, and it vanishes for
    any draw where q is the exact posterior. For `bounds.iwae` the same cut is biased: use `dreg`.
    """
    return bounds.elbo(particles.log_w_path)


def dreg(particles: Particles) -> Float[Tensor, "*B"]:
    """The IWAE bound with the doubly reparameterized gradient (Tucker et al. 2019, eq. 8).

    The decoder's gradient is the usual sum_k share_k grad log w_k; the encoder's is
    sum_k share_k^2 (d log w_k / d latents_k) (d latents_k / d parameters), unbiased, and free of
    noise where q is the exact posterior. While the price of the latents is beta < 1, so is that of
    the score, and share_k^2 becomes share_k (1 - beta + beta share_k). Draw fresh particles for
    each backward pass.
    """
    log_w = particles.log_w_path
    shares = log_w.softmax(0).detach()
    if particles.latents.requires_grad:
        # What flows on to the encoder has been weighted once, in the sum below.
        weight = 1 - particles.beta * (1 - shares)
        particles.latents.register_hook(lambda gradient: weight.unsqueeze(-1) * gradient)
    surrogate = (shares * log_w).sum(0)
    return bounds.iwae(log_w.detach()) + surrogate - surrogate.detach()


def path_derivative(bound: Bound) -> Estimator:
    """A bound's gradient without its score term: what sticking the landing does to any bound.

    Biased unless the bound is the ELBO, whatever the number of images or steps: it is here so that
    the bias can be looked at, not to train with. `sticking_the_landing` refuses those bounds.
    """

    def estimate(particles: Particles) -> Float[Tensor, "*B"]:
        return bound(particles.log_w_path)

    return estimate


def sticking_the_landing(bound: Bound) -> Estimator:
    """`stl`, for a choice of bound and estimator by name: the ELBO has it, and no other bound.

    Raises:
        ValueError: a bound other than `bounds.elbo`; the message says why.
    """
    if bound is not bounds.elbo:
        raise ValueError(
            "sticking the landing is biased for any bound but bounds.elbo: the score term that it "
            "leaves out has expectation zero only if each draw's weight in the gradient does not "
            "depend on the draw. Use doubly_reparameterized; to look at the bias, path_derivative."
        )
    return stl


def doubly_reparameterized(bound: Bound) -> Estimator:
    """A bound with the doubly reparameterized gradient; `dreg` is that of `bounds.iwae`.

    The steps of Tucker et al. (2019) to theirs hold for any smooth function of log-weights. With

        slope_k = d bound / d log w_k   and   curvature_k = d^2 bound / d (log w_k)^2,

    the decoder's gradient is the usual sum_k slope_k grad log w_k, and the encoder's is
    sum_k (slope_k - curvature_k) (d log w_k / d latents_k) (d latents_k / d parameters). That gives
    share_k^2 for IWAE, 1/K (STL) for the ELBO, share_k^2 / m within each group of MIWAE,
    beta / K + (1 - beta) share_k^2 for CIWAE, and alpha share_k + (1 - alpha) share_k^2 with shares
    of w^(1 - alpha) for Renyi. While the price of the latents is below 1, the score has that price
    and so has the curvature.

    Costs K^2 numbers per image, beside which a decoder is dear up to hundreds of draws. Draw fresh
    particles for each backward pass.
    """

    def estimate(particles: Particles) -> Float[Tensor, "*B"]:
        log_w = particles.log_w_path
        slope, curvature = slope_and_curvature(bound, log_w.detach())
        if particles.latents.requires_grad:
            # What flows on to the encoder has met the slope in the sum below. Where a slope has
            # underflowed to 0, nothing flows.
            weight = 1 - particles.beta * (curvature / slope).nan_to_num(0.0)
            particles.latents.register_hook(lambda flow: weight.unsqueeze(-1) * flow)
        surrogate = (slope * log_w).sum(0)
        return bound(log_w.detach()) + surrogate - surrogate.detach()

    return estimate


def slope_and_curvature(
    bound: Bound, log_w: Float[Tensor, "K *B"]
) -> tuple[Float[Tensor, "K *B"], Float[Tensor, "K *B"]]:
    """First and second derivative of a bound by each log-weight alone."""
    slope = torch.func.grad(lambda log_w: bound(log_w).sum())
    # A step along one particle, of all images at once: they do not meet in a bound.
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

    The value is the decoder's. What lies behind q's mean and deviation counts as the encoder, all
    else as the decoder. Costs a second backward pass through the decoder. Draw fresh particles for
    each backward pass.
    """

    def estimate(particles: Particles) -> Float[Tensor, "*B"]:
        q = particles.q
        encoder_held = particles._replace(
            latents=particles.latents.detach(),
            log_prior=particles.log_prior.detach(),
            log_q=particles.log_q.detach(),
            kl=particles.kl.detach(),
            q=Normal(q.loc.detach(), q.scale.detach(), validate_args=False),
        )
        value = decoder(encoder_held)
        if not (torch.is_grad_enabled() and particles.latents.requires_grad):
            return value
        ends = [end for end in (q.loc, q.scale) if end.requires_grad]
        slopes = torch.autograd.grad(encoder(particles).sum(), ends, retain_graph=True)
        # log_lik hangs on the latents still: what the decoder's bound sends there ends there.
        particles.latents.register_hook(torch.zeros_like)
        surrogate = torch.zeros_like(value)
        for slope, end in zip(slopes, ends, strict=True):
            surrogate = surrogate + (slope * end).sum(-1)
        return value + surrogate - surrogate.detach()

    return estimate
