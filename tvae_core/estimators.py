"""Gradient estimators: how the gradient of a bound is had from particles.

Each maps `Particles` to one value per image. The value is an estimate of its bound, and
`backward()` through it gives that estimator's gradient.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

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
    noise where q is the exact posterior. Draw fresh particles for each backward pass.
    """
    log_w = particles.log_w_path
    shares = log_w.softmax(0).detach()
    if particles.latents.requires_grad:
        # What flows on to the encoder has been weighted once, in the sum below.
        particles.latents.register_hook(lambda gradient: shares.unsqueeze(-1) * gradient)
    surrogate = (shares * log_w).sum(0)
    return bounds.iwae(log_w.detach()) + surrogate - surrogate.detach()
