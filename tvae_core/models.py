"""The VAE of the book, and its two decoders: a plain one, and one whose image passes a warp.

The latent vector is (z, u), z first: z says what is drawn, u where and how it lies. A plain VAE
is the case dim(u) = 0.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from tvae_core.networks import PixelBernoulli, StackedLinear, mlp, near_zero_linear
from tvae_core.particles import Particles
from tvae_core.runtime import check_known
from tvae_core.warps import PADDINGS, WARPS, Size, Warp, make_warp

HIDDEN = (256, 256)  # the study's two hidden layers, in the encoder and in the decoder
LOG_SIGMA_RANGE = (-8.0, 4.0)
RESAMPLED = ("probs", "logits")
FLOOR = 1e-6  # of a warped pixel's probability, and what lies outside an image of logits


class Encoder(nn.Module):
    """q(z, u | x): a diagonal normal. The mean of u passes a tanh, as in the study's code."""

    def __init__(self, size: Size, dim_z: int, dim_u: int, hidden: Sequence[int] = HIDDEN) -> None:
        super().__init__()
        self.body = mlp([size[0] * size[1], *hidden])
        self.mu_z = nn.Linear(hidden[-1], dim_z)
        self.mu_u = nn.Linear(hidden[-1], dim_u) if dim_u else None
        self.log_sigma = nn.Linear(hidden[-1], dim_z + dim_u)

    def forward(self, x: Float[Tensor, "*B 1 H W"]) -> Normal:
        """Normal with batch shape (*B, dim_z + dim_u)."""
        h = self.body(x.flatten(-3))
        mu = self.mu_z(h)
        if self.mu_u is not None:
            mu = torch.cat([mu, self.mu_u(h).tanh()], -1)
        # A clamp, so that a run-away output cannot overflow exp; never met in a healthy run.
        sigma = self.log_sigma(h).clamp(*LOG_SIGMA_RANGE).exp()
        return Normal(mu, sigma, validate_args=False)


class Decoder(nn.Module):
    """p(x | z): independent Bernoulli pixels."""

    def __init__(self, size: Size, dim_z: int, hidden: Sequence[int] = HIDDEN) -> None:
        super().__init__()
        self.size = size
        self.body = mlp([dim_z, *hidden])
        self.logits = nn.Linear(hidden[-1], size[0] * size[1])

    def forward(self, z: Float[Tensor, "*S D"]) -> PixelBernoulli:
        return PixelBernoulli(self.logits(self.body(z)).unflatten(-1, (1, *self.size)))


class WarpedDecoder(nn.Module):
    """p(x | z, u): the canonical image of z, seen through the grid of u.

    theta = W u + b are the warp's parameters, with W ~ N(0, pose_std^2) and b = 0 at the start, so
    that early warps lie near the identity. The warp resamples the pixels' probabilities or their
    logits. Where it looks outside the frame, `padding` "zeros" finds paper, p = 0 (the study's
    choice, with "probs"), and "border" the edge pixels.

    Raises:
        ValueError: an unknown padding or kind of values to resample (the known are listed).
    """

    def __init__(
        self,
        canonical: Decoder,
        warp: Warp,
        dim_u: int,
        pose_std: float = 0.1,
        resample: str = "probs",
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        check_known("kind of values to resample", resample, RESAMPLED)
        check_known("padding", padding, PADDINGS)
        self.canonical = canonical
        self.warp = warp
        self.dim_u = dim_u
        self.resample, self.padding = resample, padding
        self.pose = near_zero_linear(dim_u, warp.n_params, std=pose_std)

    def forward(self, latents: Float[Tensor, "*S D"]) -> PixelBernoulli:
        z, u = latents[..., : -self.dim_u], latents[..., -self.dim_u :]
        image, theta = self.canonical(z), self.pose(u)
        if self.resample == "probs":
            return PixelBernoulli.from_probs(self.warp(image.mean, theta, self.padding), FLOOR)
        # Logits are counted from paper's, so that zero padding is paper and not p = 1/2.
        paper = math.log(FLOOR / (1 - FLOOR))
        return PixelBernoulli(self.warp(image.logits - paper, theta, self.padding) + paper)


class VAE(nn.Module):
    """Encoder, decoder and the prior N(0, I): all the book's models are this class."""

    _zero: Tensor

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, size: Size, dim_z: int, dim_u: int = 0
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.size, self.dim_z, self.dim_u = size, dim_z, dim_u
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    @property
    def prior(self) -> Normal:
        """N(0, 1), of each latent dimension."""
        return Normal(self._zero, self._zero + 1, validate_args=False)

    def posterior(self, x: Float[Tensor, "*B 1 H W"]) -> Normal:
        """q(z, u | x), batch shape (*B, D).

        Raises:
            ValueError: x is not a batch of images of this model's size.
        """
        if x.ndim < 4 or x.shape[-3:] != (1, *self.size):
            raise ValueError(
                f"expected images of shape (B, 1, {self.size[0]}, {self.size[1]}), "
                f"got {tuple(x.shape)}"
            )
        return self.encoder(x)

    def particles(
        self, x: Float[Tensor, "*B 1 H W"], k: int = 1, posterior: Normal | None = None
    ) -> Particles:
        """k reparameterized draws from q(z, u | x) for each image, with their log-terms.

        The encoder runs once per image, however large k is; give `posterior` to draw again
        without running it at all.

        Raises:
            ValueError: k < 1, or x of a wrong shape.
        """
        if k < 1:
            raise ValueError(f"k, the number of draws per image, must be at least 1, got {k}")
        q = self.posterior(x) if posterior is None else posterior
        latents = q.rsample((k,))
        return Particles(
            latents=latents,
            log_lik=self.decoder(latents).log_prob(x),
            log_prior=self.prior.log_prob(latents).sum(-1),
            log_q=q.log_prob(latents).sum(-1),
            kl=kl_divergence(q, self.prior),
            q=q,
        )

    def split(self, latents: Float[Tensor, "*S D"]) -> tuple[Tensor, Tensor]:
        """(z, u) of a latent vector."""
        return latents[..., : self.dim_z], latents[..., self.dim_z :]

    def canonical(self, latents: Float[Tensor, "*S D"]) -> Float[Tensor, "*S 1 H W"]:
        """The upright image: pixel probabilities before the warp.

        Raises:
            TypeError: the decoder has no warp.
        """
        return self._warped_decoder().canonical(self.split(latents)[0]).mean

    def grid(self, latents: Float[Tensor, "*S D"]) -> Float[Tensor, "*S H W 2"]:
        """The sampling grid that u stands for.

        Raises:
            TypeError: the decoder has no warp.
        """
        decoder = self._warped_decoder()
        return decoder.warp.grid(decoder.pose(self.split(latents)[1]))

    def sample_latents(self, n: int) -> Float[Tensor, "n D"]:
        """n draws from the prior."""
        return self.prior.sample((n, self.dim_z + self.dim_u))

    def _warped_decoder(self) -> WarpedDecoder:
        if not isinstance(self.decoder, WarpedDecoder):
            raise TypeError(
                "this model has no warp, so it has no canonical image and no grid; "
                "build one with build('affine') or build('tps')"
            )
        return self.decoder


MODELS = ("plain", *(name for name in WARPS if name != "identity"))
STUDY_LATENTS = {"plain": (60, 0), "affine": (54, 6), "tps": (42, 18)}  # (dim_z, dim_u)


def build(
    name: str,
    size: Size = (28, 28),
    dim_z: int | None = None,
    dim_u: int | None = None,
    hidden: Sequence[int] = HIDDEN,
    **warped: Any,
) -> VAE:
    """A model by name: "plain", or the name of a warp in `warps.WARPS`.

    Without `dim_z` and `dim_u`, plain, affine and tps get the study's: (60, 0), (54, 6), (42, 18);
    the others have 60 in all, of which u takes one per parameter of the warp. `warped` are options
    of `WarpedDecoder`; the defaults are the study's.

    Raises:
        ValueError: an unknown name (the known are listed); u without a warp, or a warp without u.
    """
    check_known("model", name, MODELS)
    if name == "plain":
        if dim_u or warped:
            raise ValueError(
                f"a plain VAE has no warp to use u; got {dim_u=}, {warped=}, want none"
            )
        dim_z = STUDY_LATENTS[name][0] if dim_z is None else dim_z
        return VAE(Encoder(size, dim_z, 0, hidden), Decoder(size, dim_z, hidden), size, dim_z)
    warp = make_warp(name, size)
    study_z, study_u = STUDY_LATENTS.get(name, (60 - warp.n_params, warp.n_params))
    dim_z = study_z if dim_z is None else dim_z
    dim_u = study_u if dim_u is None else dim_u
    if dim_u < 1:
        raise ValueError(f"the warp {name!r} needs pose latents; got dim_u={dim_u}, want >= 1")
    decoder = WarpedDecoder(Decoder(size, dim_z, hidden), warp, dim_u, **warped)
    return VAE(Encoder(size, dim_z, dim_u, hidden), decoder, size, dim_z, dim_u)


@torch.no_grad()
def start_at_mean(model: VAE, mean: Float[Tensor, "1 H W"], floor: float = 1e-3) -> None:
    """Set the decoder's last bias so that its first images are the training images' mean.

    `mean` is squeezed into [floor, 1 - floor]: a pixel that is white in all training images must
    stay within reach of the others'.
    """
    decoder = model.decoder.canonical if isinstance(model.decoder, WarpedDecoder) else model.decoder
    assert isinstance(decoder, Decoder)
    decoder.logits.bias.copy_(torch.logit(floor + (1 - 2 * floor) * mean.flatten()))


def stack(models: Sequence[VAE]) -> VAE:
    """S models of one kind as one, which maps images (S, B, 1, H, W): each sees its own.

    All axes that were B become (S, B). Parameters are copied, not shared.
    """
    stacked = copy.deepcopy(models[0])
    for name, module in models[0].named_modules():
        if isinstance(module, nn.Linear):
            layers = [model.get_submodule(name) for model in models]
            stacked.set_submodule(name, StackedLinear(layers))  # type: ignore[arg-type]
    return stacked


def unstack(stacked: VAE) -> list[VAE]:
    """The models that `stack` put side by side, each alone."""
    layers = {n: m for n, m in stacked.named_modules() if isinstance(m, StackedLinear)}
    alone = [copy.deepcopy(stacked) for _ in next(iter(layers.values())).weight]
    for index, model in enumerate(alone):
        for name, module in layers.items():
            model.set_submodule(name, module.layer(index))
    return alone
