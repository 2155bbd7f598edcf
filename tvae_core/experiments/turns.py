"""One more latent, which says by how many quarter turns a picture is turned.

A normal q(u | x) has one mode. Of a digit that may lie in any direction, the true posterior over
the turn has several: a 6 is a 9 upside down, and a 0, a 1 or an 8 looks nearly the same after half
a turn. So the turn is split into a coarse part, r = 0, 1, 2, 3 quarter turns, each with prior
probability 1/4, and a fine part, which stays in u. A quarter turn of a square picture only moves
its pixels, so with p_0 for the model without r,

    p(x) = sum_r 1/4 p_0(x turned back by r quarter turns).

Four terms are few enough to compute them all: no estimator for a discrete latent is needed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.distributions import Categorical, Distribution, Normal, kl_divergence, register_kl

from tvae_core import ais, evaluation, poses
from tvae_core.checks import check
from tvae_core.data import Images
from tvae_core.models import VAE, check_images
from tvae_core.particles import Particles
from tvae_core.poses import Aligned, Poses, compose
from tvae_core.posteriors import Ordered, held

QUARTERS = 4
ROWS = 500  # pictures at once
NO_TURNS = (
    "the functions of turns need a QuarterTurns, got a {}; for any other model use poses.table, "
    "poses.align or poses.maps"
)
NO_MEAN = "q has no mean over quarter turns: give turn_back(model, images).back to model.base"


class EachQuarter(Distribution):
    """q_0 of a picture turned back by 0, 1, 2 and 3 quarter turns; `of` has batch shape (4, B).

    k draws are 4 k: k for each r, with r running faster. As weights are p_0 / q_0 of the picture
    turned back, their mean over all 4 k draws is an unbiased estimate of p(x).
    """

    def __init__(self, of: Normal | Ordered) -> None:
        self.of = of
        super().__init__(of.batch_shape[1:], validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Float[Tensor, "S B D"]:
        return self.of.rsample(sample_shape).flatten(0, -3)

    def log_prob(self, latents: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        by_quarter = latents.unflatten(0, (-1, QUARTERS))
        return self.of.log_prob(by_quarter).flatten(0, 1)

    @property
    def mean(self) -> Tensor:
        raise TypeError(NO_MEAN)

    loc = mean  # for AIS and HMC

    def held(self) -> EachQuarter:
        """The same, with the encoder's parameters held fixed."""
        return EachQuarter(held(self.of))


@register_kl(EachQuarter, Normal)
def _kl(q: EachQuarter, prior: Normal) -> Float[Tensor, "B D"]:
    """The mean over the four turns: for the log of a training, not a term of the bound."""
    return kl_divergence(q.of, prior).mean(0)


def each_quarter(x: Float[Tensor, "B 1 S S"]) -> Float[Tensor, "4 B 1 S S"]:
    """Pictures turned back by 0, 1, 2 and 3 quarter turns, which were counter-clockwise.

    Raises:
        ValueError: pictures that are not square.
    """
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"quarter turns need square pictures, got {tuple(x.shape[-2:])}")
    return torch.stack([x.rot90(-r, (-2, -1)) for r in range(QUARTERS)])


class QuarterTurns(VAE):
    """A VAE that may turn its picture by r quarter turns: see above. It shares `base`'s networks.

    k particles are 4 k, k for each r, so all bounds and estimators of their weights hold.
    """

    def __init__(self, base: VAE) -> None:
        super().__init__(base.encoder, base.decoder, base.shape, base.dim_z, base.dim_u)
        self._base = (base,)  # in a tuple, so that its parameters are not registered twice

    @property
    def base(self) -> VAE:
        """The model of a picture that was turned back."""
        return self._base[0]

    def posterior(self, x: Float[Tensor, "B 1 S S"]) -> Any:
        check_images(x, self.shape)
        return EachQuarter(super().posterior(each_quarter(x)))

    def particles(
        self, x: Float[Tensor, "B 1 S S"], k: int = 1, posterior: Any = None
    ) -> Particles:
        q = self.posterior(x) if posterior is None else posterior
        return super().particles(each_quarter(x).repeat(k, 1, 1, 1, 1), k, q)


class Turned(NamedTuple):
    """How pictures lie: p(r | x) for each r, and the pictures turned back by the likeliest r."""

    probabilities: Float[Tensor, "4 N"]
    quarter: Int64[Tensor, "N"]
    back: Images


@torch.no_grad()
def turn_back(model: QuarterTurns, images: Images, draws: int = 20) -> Turned:
    """The posterior over quarter turns, estimated with `draws` draws for each of the four.

    Raises:
        TypeError: a model without quarter turns.
        ValueError: images of another size than the model's.
    """
    _check(model, images, draws=draws)
    probabilities = torch.cat([_probabilities(model, x, draws) for x in images.x.split(ROWS)], 1)
    quarter = probabilities.argmax(0)
    back = each_quarter(images.pixels)[quarter, torch.arange(len(images))]
    return Turned(probabilities, quarter, Images(back, images.labels, images.name))


@torch.no_grad()
def table(
    model: QuarterTurns,
    images: Images,
    reference: Images | None = None,
    draws: int = poses.DRAWS,
    nll_samples: int = 0,
) -> Poses:
    """As `poses.table`, over draws of r as well: an angle with several modes has a wide error.

    The mean pose is that of the reference images, by default the images, each turned back.
    """
    _check(model, images, reference, draws=draws, nll_samples=nll_samples)
    back = turn_back(model, poses.reference_of(images, reference), draws).back
    zero = poses.mean_map(model.base, back)

    def drawn(x: Float[Tensor, "B 1 S S"]) -> tuple[Tensor, Tensor]:
        r = Categorical(_probabilities(model, x, draws).T).sample((draws,))
        fine, bend = poses.drawn(model.base, each_quarter(x).flatten(0, 1), draws, zero)
        chosen = r * len(x) + torch.arange(len(x), device=x.device)  # of pictures and quarters
        fine = fine.gather(1, chosen[..., None, None].expand(-1, -1, 2, 3))
        return compose(quarter_maps(r), fine), bend.gather(1, chosen)

    batches = images.x.split(max(1, poses.ROWS // (QUARTERS * draws)))
    pairs = zip(*map(drawn, batches), strict=True)
    columns = poses.summary(*(torch.cat(parts, 1).cpu() for parts in pairs))
    if nll_samples:
        columns["nll"] = evaluation.nll(model, images, nll_samples).nll
    return Poses(columns)


def align(
    model: QuarterTurns, images: Images, reference: Images | None = None, draws: int = 20
) -> Aligned:
    """As `poses.align`, of the pictures turned back by the likeliest r."""
    _check(model, images, reference, draws=draws)
    back = turn_back(model, images, draws).back
    if reference is not None:
        reference = turn_back(model, reference, draws).back
    return poses.align(model.base, back, reference)


def maps(
    model: QuarterTurns, images: Images, reference: Images | None = None, draws: int = 20
) -> Float[Tensor, "N 2 3"]:
    """As `poses.maps`: the pose of the picture turned back, then the quarter turns.

    The mean pose is that of the reference images, by default the images, each turned back too.
    """
    _check(model, images, reference, draws=draws)
    turned = turn_back(model, images, draws)
    others = None if reference is None else turn_back(model, reference, draws).back
    fine = poses.maps(model.base, turned.back, others)
    return compose(quarter_maps(turned.quarter).cpu(), fine)


class Modes(NamedTuple):
    """The posterior over the whole turn of N pictures.

    log_p: estimates of log p_0(x_r), for each r; se: their standard errors; degrees: the turn that
    r and u make together, from the mean pose, in K draws of u for each r.
    """

    log_p: Float[Tensor, "4 N"]
    se: Float[Tensor, "4 N"]
    degrees: Float[Tensor, "K 4 N"]

    @property
    def probabilities(self) -> Float[Tensor, "4 N"]:
        """p(r | x)."""
        return self.log_p.softmax(0)


def modes(
    model: QuarterTurns,
    images: Images,
    reference: Images,
    n_distributions: int = 500,
    chains: int = 16,
    draws: int = 20,
) -> Modes:
    """The posterior over the turn: by AIS for r, by HMC for u, whose chains start at q.

    Each chain makes `draws` transitions at the end, so K = draws * chains.
    """
    _check(model, images, reference)
    each = each_quarter(images.x).flatten(0, 1)
    annealed = ais.ais(model.base, each, n_distributions, chains)
    latents = ais.posterior_draws(model.base, each, draws, n_distributions // 2, chains)
    with torch.no_grad():
        maps = poses.maps_of(model.base, each, model.split(latents.flatten(0, 1))[1])[0]
        zero = poses.mean_map(model.base, turn_back(model, reference).back)
        fine = poses.relative(maps, zero, model.size).unflatten(1, (QUARTERS, -1))
        quarters = quarter_maps(torch.arange(QUARTERS, device=fine.device))
        degrees = poses.decompose(compose(quarters[:, None], fine))["degrees"]
    log_p, se = (v.unflatten(0, (QUARTERS, -1)) for v in (annealed.log_p, annealed.se))
    return Modes(log_p, se, degrees)


def quarter_maps(quarters: Int64[Tensor, "*S"]) -> Float[Tensor, "*S 2 3"]:
    """The map P of r quarter turns counter-clockwise, in pixels, with y downwards."""
    once = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], device=quarters.device)
    linear = torch.stack([torch.linalg.matrix_power(once, r) for r in range(QUARTERS)])
    return F.pad(linear, (0, 1))[quarters]  # without a shift


def _check(model: QuarterTurns, *images: Images | None, **numbers: int) -> None:
    """Raise an error unless the model has quarter turns, and images, if given, are of its size."""
    if not isinstance(model, QuarterTurns):
        raise TypeError(NO_TURNS.format(type(model).__name__))
    for each in images:
        if each is not None:
            check("images", each, Images)
            check_images(each.x, model.shape)
    for name, number in numbers.items():
        check(name, number, int)


def _probabilities(
    model: QuarterTurns, x: Float[Tensor, "B 1 S S"], draws: int
) -> Float[Tensor, "4 B"]:
    """p(r | x), estimated with `draws` draws for each r."""
    log_w = model.particles(x, draws).log_w.unflatten(0, (draws, QUARTERS))
    return log_w.logsumexp(0).softmax(0)
