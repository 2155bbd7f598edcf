"""K weighted draws from q for each image of a batch: all that a bound or an estimator needs."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal


class Particles(NamedTuple):
    """K latents for each image of a batch *B, and the log-terms of their weights, in nats.

    log_lik = log p(x | latents), log_prior = log p(latents), log_q = log q(latents | x).
    `kl` is KL(q || p) in closed form, one value per image and latent dimension, and `q` the
    posterior itself. `beta` multiplies the price log q - log p of the latents. Below 1 a bound is
    no bound on log p(x); training may start there (Bowman et al. 2016, section 3.1).
    """

    latents: Float[Tensor, "K *B D"]
    log_lik: Float[Tensor, "K *B"]
    log_prior: Float[Tensor, "K *B"]
    log_q: Float[Tensor, "K *B"]
    kl: Float[Tensor, "*B D"]
    q: Normal
    beta: Tensor | float = 1.0

    @property
    def log_w(self) -> Float[Tensor, "K *B"]:
        """log p(x, latents) - log q(latents | x)."""
        return self.log_lik - self.beta * (self.log_q - self.log_prior)

    @property
    def log_w_path(self) -> Float[Tensor, "K *B"]:
        """The same values, with the parameters of q held fixed inside log q.

        So the gradient reaches the encoder through the latents alone, the "path derivative"
        (Roeder et al. 2017, eq. 6).
        """
        fixed = Normal(self.q.loc.detach(), self.q.scale.detach(), validate_args=False)
        log_q = fixed.log_prob(self.latents).sum(-1)
        return self.log_lik - self.beta * (log_q - self.log_prior)
