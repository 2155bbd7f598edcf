"""The book's VAE and its two decoders: a plain one, and one that warps its image.

The latent vector is (z, u), z first: z describes what is drawn, u its position and pose. A plain
VAE is the case dim(u) = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from tvae_core.checks import check, check_known, checked
from tvae_core.networks import PixelBernoulli, mlp, near_zero_linear
from tvae_core.particles import Particles
from tvae_core.posteriors import Ordered
from tvae_core.warps import PADDINGS, WARPS, Size, Warp, make_warp, sample

HIDDEN = (256, 256)  # the study's two hidden layers, in the encoder and in the decoder
LOG_SIGMA_RANGE = (-8.0, 4.0)
Shape = Size | tuple[int, int, int]  # (height, width), or (channels, height, width)
Pixels = Callable[[Tensor], Any]  # from logits (*S, C, H, W) to the distribution of pixels
RESAMPLED = ("probs", "logits")
FLOOR = 1e-6  # the least probability of a warped pixel; for logits, that of the background
NO_WARP = (
    "this model has no warp, so it has no canonical image and no grid; "
    "build one with build('affine') or build('tps')"
)


class Encoder(nn.Module):
    """q(z, u | x), a diagonal normal. A tanh may bound u's mean, as in the study's code."""

    def __init__(
        self,
        size: Shape,
        dim_z: int,
        dim_u: int,
        hidden: Sequence[int] = HIDDEN,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        self.bounded = bounded
        self.body = mlp([math.prod(size), *hidden])
        self.mu_z = nn.Linear(hidden[-1], dim_z)
        self.mu_u = nn.Linear(hidden[-1], dim_u) if dim_u else None
        self.log_sigma = nn.Linear(hidden[-1], dim_z + dim_u)

    def forward(self, x: Float[Tensor, "*B C H W"]) -> Normal:
        """Normal with batch shape (*B, dim_z + dim_u)."""
        h = self.body(x.flatten(-3))
        mu = self.mu_z(h)
        if self.mu_u is not None:
            mu_u = self.mu_u(h)
            mu = torch.cat([mu, mu_u.tanh() if self.bounded else mu_u], -1)
        # The clamp keeps exp from overflowing when training diverges; healthy runs never reach it.
        sigma = self.log_sigma(h).clamp(*LOG_SIGMA_RANGE).exp()
        return self.from_parts(mu, sigma)

    @staticmethod
    def from_parts(mean: Tensor, deviation: Tensor) -> Normal:
        """A posterior from its tensors: see `posteriors.parts`."""
        return Normal(mean, deviation, validate_args=False)

    def heads(self) -> dict[str, list[tuple[nn.Linear, slice]]]:
        """The rows of the last layers that give q's mean and deviation for "z" and, if any, "u"."""
        dim_z = self.mu_z.out_features
        heads = {"z": [(self.mu_z, slice(None)), (self.log_sigma, slice(dim_z))]}
        if self.mu_u is not None:
            heads["u"] = [(self.mu_u, slice(None)), (self.log_sigma, slice(dim_z, None))]
        return heads


LOOKS = ("once", "pose", "straight", "straight-mean")


class SecondLook(nn.Module):
    """q(u | x) q(z | x, u): infer the pose, and only then read what is drawn.

    `look` says what z is read from, besides u: the image itself ("pose"), or the image straightened
    by the inverse of the decoder's warp, for every drawn u ("straight") or once, for the mean of u
    ("straight-mean"). Any map from image and u to a normal gives a valid bound, so the inverse may
    be approximate; the attribute `refine` is that of `Warp.inverse_grid`.
    """

    def __init__(
        self,
        decoder: WarpedDecoder,
        size: Shape,
        dim_z: int,
        dim_u: int,
        hidden: Sequence[int] = HIDDEN,
        look: str = "straight",
    ) -> None:
        super().__init__()
        check_known("look", look, LOOKS[1:])
        self.look, self.refine = look, 0
        # In a tuple, because its parameters are the decoder's: they are not registered twice.
        self._decoder = (decoder,)
        self.body = mlp([math.prod(size), *hidden])
        self.mu_u = nn.Linear(hidden[-1], dim_u)
        self.log_sigma_u = nn.Linear(hidden[-1], dim_u)
        self.read = nn.Linear(math.prod(size), hidden[0])
        self.reader = _Reader(dim_z, dim_u, hidden)

    def forward(self, x: Float[Tensor, "*B C H W"]) -> Ordered:
        """A posterior with batch shape (*B, dim_z + dim_u)."""
        h = self.body(x.flatten(-3))
        sigma = self.log_sigma_u(h).clamp(*LOG_SIGMA_RANGE).exp()
        mu = self.mu_u(h)
        if self.look == "straight":
            return self.from_parts(mu, sigma, x)
        if self.look == "straight-mean":
            x = self.straightened(x, mu)
        return self.from_parts(mu, sigma, self.read(x.flatten(-3)))

    def from_parts(self, mean: Tensor, deviation: Tensor, seen: Tensor) -> Ordered:
        """A posterior from its tensors: see `posteriors.parts`."""
        return Ordered(Normal(mean, deviation, validate_args=False), seen, self._given)

    def _given(self, seen: Tensor, u: Float[Tensor, "*S U"], held: bool = False) -> Normal:
        """q(z | x, u), from the image itself (look "straight") or from `read` of it."""
        if self.look == "straight":
            seen = _call(self.read, held, self.straightened(seen, u, held).flatten(-3))
        mean, deviation = _call(self.reader, held, seen, u)
        return Normal(mean, deviation, validate_args=False)

    def straightened(
        self, x: Float[Tensor, "*B C H W"], u: Float[Tensor, "*S U"], held: bool = False
    ) -> Float[Tensor, "*S C H W"]:
        """Images seen through the inverse of the warp of u."""
        warp, pose = self._decoder[0].warp, self._decoder[0].pose
        return sample(x, warp.inverse_grid(_call(pose, held, u), self.refine))

    def heads(self) -> dict[str, list[tuple[nn.Linear, slice]]]:
        """As `Encoder.heads`."""
        every = slice(None)
        return {
            "z": [(self.reader.mu, every), (self.reader.log_sigma, every)],
            "u": [(self.mu_u, every), (self.log_sigma_u, every)],
        }


class _Reader(nn.Module):
    """From the first layer's sums for the image, and u, to mean and deviation of z."""

    def __init__(self, dim_z: int, dim_u: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.pose = nn.Linear(dim_u, hidden[0])
        self.body = mlp(hidden)
        self.mu = nn.Linear(hidden[-1], dim_z)
        self.log_sigma = nn.Linear(hidden[-1], dim_z)

    def forward(self, seen: Float[Tensor, "*B H"], u: Float[Tensor, "*S U"]) -> tuple[Tensor, ...]:
        h = self.body((seen + self.pose(u)).relu())
        return self.mu(h), self.log_sigma(h).clamp(*LOG_SIGMA_RANGE).exp()


def _call(module: nn.Module, held: bool, *args: Tensor) -> Any:
    """module(*args); if `held`, without a gradient for the module's parameters."""
    if not held:
        return module(*args)
    fixed = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return torch.func.functional_call(module, fixed, args)


class Decoder(nn.Module):
    """p(x | z): independent pixels; `pixels` takes their logits, and by default is Bernoulli."""

    def __init__(
        self,
        size: Shape,
        dim_z: int,
        hidden: Sequence[int] = HIDDEN,
        pixels: Pixels = PixelBernoulli,
    ) -> None:
        super().__init__()
        self.shape, self.pixels = (1, *size)[-3:], pixels
        self.body = mlp([dim_z, *hidden])
        self.logits = nn.Linear(hidden[-1], math.prod(size))

    def forward(self, z: Float[Tensor, "*S D"]) -> Any:
        return self.pixels(self.logits(self.body(z)).unflatten(-1, self.shape))

    def canonical_image(self, latents: Float[Tensor, "*S D"]) -> Tensor:
        raise TypeError(NO_WARP)

    def grid(self, latents: Float[Tensor, "*S D"]) -> Tensor:
        raise TypeError(NO_WARP)


class WarpedDecoder(nn.Module):
    """p(x | z, u): the canonical image of z, warped by the grid of u.

    theta = W u + b are the warp's parameters. W starts as N(0, pose_std^2) and b as 0: at 0.1,
    early grids of an affine map are off by about 7 pixels of 28, and both networks can learn.
    `resample` says whether the warp interpolates the pixels' probabilities or their logits. Outside
    the frame, `padding` "zeros" gives empty background, p = 0 (the study's choice, with "probs"),
    "border" repeats the edge pixels, and "reflection" mirrors them.
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

    def forward(self, latents: Float[Tensor, "*S D"]) -> Any:
        z, u = self._split(latents)
        image, theta = self.canonical(z), self.pose(u)
        if self.resample == "probs":
            probs = self.warp(image.logits.sigmoid(), theta, self.padding)
            return self.canonical.pixels(PixelBernoulli.from_probs(probs, FLOOR).logits)
        # Relative to the background's logit, so that zero padding means background and not p = 1/2.
        background = math.log(FLOOR / (1 - FLOOR))
        warped = self.warp(image.logits - background, theta, self.padding)
        return self.canonical.pixels(warped + background)

    def canonical_image(self, latents: Float[Tensor, "*S D"]) -> Float[Tensor, "*S C H W"]:
        """The pixels' means before the warp, for Bernoulli pixels their probabilities."""
        return self.canonical(self._split(latents)[0]).mean

    def grid(self, latents: Float[Tensor, "*S D"]) -> Float[Tensor, "*S H W 2"]:
        """The point of the canonical image that each output pixel looks at."""
        return self.warp.grid(self.pose(self._split(latents)[1]))

    def _split(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return latents[..., : -self.dim_u], latents[..., -self.dim_u :]


class VAE(nn.Module):
    """Encoder, decoder and the prior N(0, I): every model in the book is one of these."""

    encoder: Any  # images to q(z, u | x), a Normal or an Ordered
    decoder: Any  # latents to p(x | latents); it knows whether there is a warp

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, size: Shape, dim_z: int, dim_u: int = 0
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.size, self.shape, self.dim_z, self.dim_u = size[-2:], (1, *size)[-3:], dim_z, dim_u

    @property
    def prior(self) -> Normal:
        """N(0, 1), for each latent dimension."""
        zero = next(self.parameters()).new_zeros(())  # where and as precise as the weights
        return Normal(zero, zero + 1, validate_args=False)

    def posterior(self, x: Float[Tensor, "*B C H W"]) -> Normal | Ordered:
        """q(z, u | x), batch shape (*B, D). Raises ValueError for images of the wrong shape."""
        check_images(x, self.shape)
        return self.encoder(x)

    def particles(
        self, x: Float[Tensor, "*B C H W"], k: int = 1, posterior: Normal | Ordered | None = None
    ) -> Particles:
        """k reparameterized draws from q(z, u | x) for each image, with their log-terms.

        The encoder runs once per image for any k, or not at all if `posterior` is given.
        """
        check("k", k, int)
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
        """Split the last axis into the parts for z and for u."""
        return latents[..., : self.dim_z], latents[..., self.dim_z :]

    def canonical(self, latents: Float[Tensor, "*S D"]) -> Float[Tensor, "*S C H W"]:
        """The image before the warp. Raises TypeError if there is no warp."""
        return self.decoder.canonical_image(latents)

    def grid(self, latents: Float[Tensor, "*S D"]) -> Float[Tensor, "*S H W 2"]:
        """The sampling grid of u. Raises TypeError if there is no warp."""
        return self.decoder.grid(latents)

    @checked
    def sample_latents(self, n: int) -> Float[Tensor, "n D"]:
        """n draws from the prior."""
        return self.prior.sample((n, self.dim_z + self.dim_u))


def check_images(x: Tensor, shape: Sequence[int]) -> None:
    """Raise a ValueError unless x is a batch of images of this shape, as floats."""
    if not x.is_floating_point():
        raise ValueError(f"expected images as floats in [0, 1], such as images.x; got {x.dtype}")
    if x.ndim < 4 or x.shape[-3:] != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"expected images of shape (B, {wanted}), got {tuple(x.shape)}")


MODELS = ("plain", *(name for name in WARPS if name != "identity"))
STUDY_LATENTS = {"plain": (60, 0), "affine": (54, 6), "tps": (42, 18)}  # (dim_z, dim_u)


def build(
    name: str,
    size: Shape = (28, 28),
    dim_z: int | None = None,
    dim_u: int | None = None,
    hidden: Sequence[int] = HIDDEN,
    encoder_hidden: Sequence[int] | None = None,
    look: str = "once",
    bounded: bool = True,
    pixels: Pixels = PixelBernoulli,
    **warped: Any,
) -> VAE:
    """A model by name: "plain", or the name of a warp in `warps.WARPS` other than "identity".

    By default plain, affine and tps have the study's `dim_z` and `dim_u`: (60, 0), (54, 6) and
    (42, 18). The other models have 60 latents, one of them in u for each parameter of the warp.
    `encoder_hidden` are the encoder's hidden layers, by default `hidden`. With a `look` other than
    "once" the encoder is a `SecondLook`; otherwise `bounded` is that of `Encoder`. `pixels` is that
    of `Decoder`; `warped` are options of `WarpedDecoder`. The defaults are the study's.

    Raises:
        ValueError: an unknown model or look; a plain model with options of a warp; dim_u below 1.
    """
    check_known("model", name, MODELS)
    check_known("look", look, LOOKS)
    encoder_hidden = hidden if encoder_hidden is None else encoder_hidden
    if name == "plain":
        if dim_u or warped or look != "once":
            raise ValueError(
                f"a plain VAE has no warp: leave out {dim_u=}, {look=} and its options {warped}"
            )
        dim_z = STUDY_LATENTS[name][0] if dim_z is None else dim_z
        encoder = Encoder(size, dim_z, 0, encoder_hidden)
        return VAE(encoder, Decoder(size, dim_z, hidden, pixels), size, dim_z)
    warp = make_warp(name, size[-2:])
    study_z, study_u = STUDY_LATENTS.get(name, (60 - warp.n_params, warp.n_params))
    dim_z = study_z if dim_z is None else dim_z
    dim_u = study_u if dim_u is None else dim_u
    if dim_u < 1:
        raise ValueError(f"the warp {name!r} needs pose latents; got dim_u={dim_u}, expected >= 1")
    decoder = WarpedDecoder(Decoder(size, dim_z, hidden, pixels), warp, dim_u, **warped)
    if look == "once":
        encoder = Encoder(size, dim_z, dim_u, encoder_hidden, bounded)
        return VAE(encoder, decoder, size, dim_z, dim_u)
    second = SecondLook(decoder, size, dim_z, dim_u, encoder_hidden, look)
    return VAE(second, decoder, size, dim_z, dim_u)


@torch.no_grad()
def start_at_mean(model: VAE, mean: Float[Tensor, "C H W"], floor: float = 1e-3) -> None:
    """Set the decoder's last bias so that initial images are close to the training images' mean.

    `mean` is rescaled to [floor, 1 - floor], so that a pixel that is white in all training images
    can still turn black.
    """
    canonical = getattr(model.decoder, "canonical", model.decoder)
    canonical.logits.bias.copy_(torch.logit(floor + (1 - 2 * floor) * mean.flatten()))
