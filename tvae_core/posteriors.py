"""Approximate posteriors that are drawn in order: first u, then z with that u in view.

The book's first encoder returns a diagonal normal, torch's `Normal`. `Ordered` offers the same
methods, so bounds, evaluation and all estimators but `estimators.paired` take either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Normal, kl_divergence, register_kl

# Takes the encoder's features of the images, u, and whether to hold the encoder's parameters fixed;
# returns q(z | x, u).
Given = Callable[[Tensor, Tensor, bool], Normal]
DRAWS = 16  # for a KL that is asked for before anything was drawn


class Ordered(Distribution):
    """q(u | x) q(z | x, u), a normal whose mean and deviation of z depend on the u that was drawn.

    `seen` holds what the encoder computes once per image, however many draws follow. As for a
    `Normal`, `log_prob` gives one value per latent, z first; their sum is log q(z, u | x). `mean`
    and `stddev` describe z at the mean of u.
    """

    def __init__(self, u: Normal, seen: Tensor, given: Given, held: bool = False) -> None:
        self.u, self.seen, self.given, self.is_held = u, seen, given, held
        self._last: tuple[Tensor, Normal] | None = None  # the latest draws and where they came from
        super().__init__(u.batch_shape, validate_args=False)

    def at(self, u: Float[Tensor, "*S U"]) -> Normal:
        """The normal that z and u are drawn from, given that u is drawn as this."""
        z = self.given(self.seen, u, self.is_held)
        loc, scale = (
            torch.cat([of_z, of_u.expand(*of_z.shape[:-1], -1)], -1)
            for of_z, of_u in ((z.loc, self.u.loc), (z.scale, self.u.scale))
        )
        return Normal(loc, scale, validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Float[Tensor, "*S D"]:
        """Reparameterized draws of (z, u)."""
        u = self.u.rsample(sample_shape)
        normal = self.at(u)
        of_z = normal.loc[..., : -u.shape[-1]], normal.scale[..., : -u.shape[-1]]
        latents = torch.cat([Normal(*of_z, validate_args=False).rsample(), u], -1)
        self._last = latents, normal
        return latents

    def log_prob(self, latents: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """log q(z | x, u) of each latent in z, then log q(u | x) of each latent in u."""
        if self._last is None or latents is not self._last[0]:
            return self.at(latents[..., -self.u.loc.shape[-1] :]).log_prob(latents)
        return self._last[1].log_prob(latents)

    @property
    def loc(self) -> Float[Tensor, "*B D"]:
        return self.at(self.u.loc).loc

    @property
    def scale(self) -> Float[Tensor, "*B D"]:
        return self.at(self.u.loc).scale

    @property
    def mean(self) -> Float[Tensor, "*B D"]:
        return self.loc

    @property
    def stddev(self) -> Float[Tensor, "*B D"]:
        return self.scale

    def held(self) -> Ordered:
        """The same distribution, with the encoder's parameters held fixed."""
        return Ordered(fixed(self.u), self.seen.detach(), self.given, held=True)


@register_kl(Ordered, Normal)
def _kl(q: Ordered, prior: Normal) -> Float[Tensor, "*B D"]:
    """KL(q || prior) of each latent: exact for u, and for z a mean over the latest draws of u.

    By the chain rule, KL(q(z, u) || p) = KL(q(u) || p(u)) + E_q(u)[KL(q(z | u) || p(z))].
    """
    if q._last is None:
        q.rsample((DRAWS,))
    assert q._last is not None
    kl = kl_divergence(q._last[1], prior)
    return kl.mean(list(range(kl.ndim - q.u.loc.ndim))) if kl.ndim > q.u.loc.ndim else kl


def fixed(normal: Normal) -> Normal:
    """The same normal, detached from the parameters that it was computed with."""
    return Normal(normal.loc.detach(), normal.scale.detach(), validate_args=False)


def held(q: Normal | Ordered) -> Normal | Ordered:
    """q with its parameters held fixed, for the path derivative of log q."""
    return fixed(q) if isinstance(q, Normal) else q.held()


def parts(q: Normal | Ordered) -> tuple[Tensor, ...]:
    """The tensors that q consists of; the encoder's `from_parts` puts them together again."""
    return (q.u.loc, q.u.scale, q.seen) if isinstance(q, Ordered) else (q.mean, q.stddev)
