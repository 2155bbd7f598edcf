"""Lower bounds on log p(x) as pure functions of log-weights: particles first, then anything."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor


def elbo(log_w: Float[Tensor, "K *B"]) -> Float[Tensor, "*B"]:
    """Evidence lower bound, 1/K sum_k log w_k, in nats (Kingma & Welling 2014, eq. 2).

    With K > 1 this is the multi-sample VAE: K draws lower the estimate's noise, and leave the
    bound where it was. For a tighter bound use `iwae`.
    """
    return log_w.mean(0)


def iwae(log_w: Float[Tensor, "K *B"]) -> Float[Tensor, "*B"]:
    """Importance-weighted bound, log 1/K sum_k w_k, in nats (Burda et al. 2016, eq. 8)."""
    return log_w.logsumexp(0) - math.log(len(log_w))
