"""A VAE whose log p(x) and posterior are known exactly, to check bounds and estimates against:

z ~ N(0, I),  x | z ~ N(W z + b, s^2 I),  with x an image of H W pixels.

The columns of W are orthogonal. That makes the posterior a *diagonal* normal, so q can be exact.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from tvae_core.data import Images, from_tensor
from tvae_core.models import VAE
from tvae_core.runtime import seeded


class Pixels:
    """p(x | z) of the linear-Gaussian model, as its decoder returns it."""

    def __init__(self, mean: Tensor, s: float, size: tuple[int, int]) -> None:
        self.normal, self.size = Normal(mean, s), size

    def log_prob(self, x: Tensor) -> Tensor:
        return self.normal.log_prob(x.flatten(-3)).sum(-1)

    def sample(self) -> Tensor:
        return self.normal.sample().unflatten(-1, (1, *self.size))


class LinearGaussian:
    """The part of the interface of `models.VAE` that bounds, evaluation and AIS use.

    q is the exact posterior, moved by `shift` of its standard deviations and widened by the factor
    `widen`. By default it is exact.
    """

    def __init__(
        self,
        shift: float = 0.0,
        widen: float = 1.0,
        size: tuple[int, int] = (2, 3),
        dim_z: int = 2,
        dim_u: int = 1,
        dtype: torch.dtype = torch.float64,
        s: float = 0.1,
    ) -> None:
        self.shift, self.widen, self.size, self.dim_z = shift, widen, size, dim_z
        self.shape = (1, *size)
        pixels, dim = size[0] * size[1], dim_z + dim_u
        with seeded(0):
            orthonormal, _ = torch.linalg.qr(torch.randn(pixels, dim, dtype=torch.float64))
        self.W = (orthonormal * torch.linspace(0.1, 0.3, dim)).to(dtype)
        self.b, self.s = 0.5, s

    particles, split = VAE.particles, VAE.split

    def posterior(self, x: Tensor) -> Normal:
        precision = 1 + self.W.square().sum(0) / self.s**2
        mean = (x.flatten(1).to(self.W.dtype) - self.b) @ self.W / self.s**2 / precision
        sigma = precision.rsqrt().expand_as(mean)
        return Normal(mean + self.shift * sigma, self.widen * sigma)

    @property
    def prior(self) -> Normal:
        zero = torch.zeros((), dtype=self.W.dtype)
        return Normal(zero, zero + 1)

    def decoder(self, latents: Tensor) -> Pixels:
        return Pixels(latents @ self.W.T + self.b, self.s, self.size)

    def sample_latents(self, n: int) -> Tensor:
        return torch.randn(n, self.W.shape[1], dtype=self.W.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log p(x), computed without the posterior: x ~ N(b, W W' + s^2 I)."""
        noise = self.s**2 * torch.eye(len(self.W), dtype=torch.float64)
        W = self.W.double()
        centre = torch.full_like(noise[0], self.b)
        return MultivariateNormal(centre, W @ W.T + noise).log_prob(x.flatten(1).double())

    def images(self, n: int, seed: int = 0) -> Images:
        """n images from the model, rounded to 256 gray levels, where log p is exact as well."""
        with seeded(seed):
            z = torch.randn(n, self.W.shape[1], dtype=self.W.dtype)
            mean = z @ self.W.T + self.b
            x = mean + self.s * torch.randn_like(mean)
        return from_tensor(x.clamp(0, 1).view(n, 1, *self.size))
