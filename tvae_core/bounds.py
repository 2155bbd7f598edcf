"""Lower bounds on log p(x), as pure functions of log-weights: particles are on the first axis, and
any other axes may follow."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor


def elbo(log_w: Float[Tensor, "K *B"]) -> Float[Tensor, "*B"]:
    """Evidence lower bound, 1/K sum_k log w_k, in nats (Kingma & Welling 2014, eq. 2).

    With K > 1 this is the multi-sample VAE: more draws make the estimate less noisy but do not
    tighten the bound. For a tighter bound use `iwae`.
    """
    return log_w.mean(0)


def iwae(log_w: Float[Tensor, "K *B"]) -> Float[Tensor, "*B"]:
    """Importance-weighted bound, log 1/K sum_k w_k, in nats (Burda et al. 2016, eq. 8)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def miwae(log_w: Float[Tensor, "K *B"], m: int) -> Float[Tensor, "*B"]:
    """The mean of m IWAE bounds of k = K/m draws each, in nats (Rainforth et al. 2018).

    MIWAE(1, k) is the IWAE bound of k draws, MIWAE(m, 1) the ELBO from m draws. In expectation the
    value depends on k alone; a larger m makes it less noisy. Particle i belongs to group i modulo
    m.
    """
    if len(log_w) % m:
        raise ValueError(
            f"MIWAE needs m >= 1 groups of equal size; {len(log_w)} draws do not divide into {m=}"
        )
    return elbo(iwae(log_w.unflatten(0, (-1, m))))


def ciwae(log_w: Float[Tensor, "K *B"], beta: float) -> Float[Tensor, "*B"]:
    """beta ELBO + (1 - beta) IWAE from the same draws, in nats (Rainforth et al. 2018).

    This beta mixes two bounds; it is not the KL weight of a warm-up.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"CIWAE mixes two bounds and needs 0 <= beta <= 1, got {beta=}")
    return beta * elbo(log_w) + (1 - beta) * iwae(log_w)
