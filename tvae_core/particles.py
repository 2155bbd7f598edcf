"""K weighted draws from q for each image of a batch: all that a bound or an estimator needs."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, is_grad_enabled
from torch.distributions import Normal

from tvae_core.posteriors import Ordered, held


class Particles(NamedTuple):
    """K latents for each image of a batch *B, and the log-terms of their weights, in nats.

    log_lik = log p(x | latents), log_prior = log p(latents), log_q = log q(latents | x).
    `kl` is KL(q || p), one value per image and latent dimension, and `q` is the posterior itself.
    The KL is in closed form, except that of z in a posterior that is drawn in order: its closed
    form is averaged over the draws of u.
    """

    latents: Float[Tensor, "K *B D"]
    log_lik: Float[Tensor, "K *B"]
    log_prior: Float[Tensor, "K *B"]
    log_q: Float[Tensor, "K *B"]
    kl: Float[Tensor, "*B D"]
    q: Normal | Ordered

    @property
    def log_w(self) -> Float[Tensor, "K *B"]:
        """log p(x, latents) - log q(latents | x)."""
        return self.log_lik - (self.log_q - self.log_prior)

    @property
    def log_q_path(self) -> Float[Tensor, "K *B"]:
        """The values of log_q, with the parameters of q held fixed inside log q.

        Weights that use it send the encoder a gradient through the latents alone: the "path
        derivative" (Roeder et al. 2017, eq. 6).
        """
        if not is_grad_enabled():
            return self.log_q
        return held(self.q).log_prob(self.latents).sum(-1)
