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

    def estimate(particles: Particles) -> Float[Tensor, "B"]:
        return bound(particles.log_w)

    return estimate


def analytic_kl(particles: Particles) -> Float[Tensor, "B"]:
    """The ELBO with its KL term in closed form (Kingma & Welling 2014, eq. 10).

    Same expectation as `reparameterized(bounds.elbo)`; the KL adds no noise. There is no such
    closed form for `bounds.iwae`.
    """
    return bounds.elbo(particles.log_lik) - particles.kl.sum(-1)
