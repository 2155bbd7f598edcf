"""K weighted draws from q for each image of a batch: all that a bound or an estimator needs."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Particles(NamedTuple):
    """K latents for each of B images, and the log-terms of their weights, in nats.

    log_lik = log p(x | latents), log_prior = log p(latents), log_q = log q(latents | x).
    `kl` is KL(q || p) in closed form, one value per image and latent dimension.
    """

    latents: Float[Tensor, "K B D"]
    log_lik: Float[Tensor, "K B"]
    log_prior: Float[Tensor, "K B"]
    log_q: Float[Tensor, "K B"]
    kl: Float[Tensor, "B D"]

    @property
    def log_w(self) -> Float[Tensor, "K B"]:
        """log p(x, latents) - log q(latents | x)."""
        return self.log_lik + self.log_prior - self.log_q
