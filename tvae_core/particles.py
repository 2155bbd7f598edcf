"""K weighted draws from q for each image of a batch: all that a bound or an estimator needs."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal


class Particles(NamedTuple):
    """K latents for each image of a batch *B, and the log-terms of their weights, in nats.

    log_lik = log p(x | latents), log_prior = log p(latents), log_q = log q(latents | x).
    `kl` is KL(q || p) in closed form, one value per image and latent dimension, and `q` is the
    posterior itself.
    """

    latents: Float[Tensor, "K *B D"]
    log_lik: Float[Tensor, "K *B"]
    log_prior: Float[Tensor, "K *B"]
    log_q: Float[Tensor, "K *B"]
    kl: Float[Tensor, "*B D"]
    q: Normal

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
        fixed = Normal(self.q.loc.detach(), self.q.scale.detach(), validate_args=False)
        return fixed.log_prob(self.latents).sum(-1)
