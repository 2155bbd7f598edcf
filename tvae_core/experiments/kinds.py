"""The kinds of measurement of `tvae_core.measure`: what each measures, and of which models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tvae_core import ais, bounds, data, diagnostics, estimators, evaluation, gradients
from tvae_core.data import Images
from tvae_core.estimators import Estimator
from tvae_core.experiments.configs import names_of
from tvae_core.experiments.fingerprint import rounded
from tvae_core.models import VAE

MODELS = names_of("iwae5")
CONVERGED = names_of("iwae5", variant="long")
MULTI = names_of("multi5")
STRAIGHT = [
    f"{model}-straight-iwae5-{recipe}"
    for recipe in ("modern", "long")
    for model in ("affine", "tps")
]
# The encoders that chapter 11 compares, all with the modern recipe.
LOOKS = [f"{name}-iwae5-modern" for name in ("plain", "affine", "affine-pose", "affine-straight")]
VAES = names_of("vae")
# The estimators of the gradient lab, each with k draws in total. Those named miwae8 have 8 groups,
# and are skipped unless 8 divides k.
miwae8 = partial(bounds.miwae, m=8)
ciwae = partial(bounds.ciwae, beta=0.5)
SNR_ESTIMATORS: dict[str, Estimator] = {
    "elbo": estimators.reparameterized(bounds.elbo),
    "elbo, stl": estimators.stl,
    "iwae": estimators.reparameterized(bounds.iwae),
    "iwae, path derivative": estimators.path_derivative(bounds.iwae),
    "iwae, dreg": estimators.doubly_reparameterized(bounds.iwae),
    "miwae8": estimators.reparameterized(miwae8),
    "miwae8, dreg": estimators.doubly_reparameterized(miwae8),
    "ciwae": estimators.reparameterized(ciwae),
    "ciwae, dreg": estimators.doubly_reparameterized(ciwae),
}
SNR_KS = (1, 2, 4, 8, 16, 32, 64)
IS_SAMPLES = evaluation.NLL_SAMPLES  # draws of the importance sampling that AIS is compared with


@dataclass(frozen=True)
class Options:
    """The options of all kinds; a record stores those that its kind uses. Some kinds have other
    defaults."""

    images: int = 100
    block: int = 10  # images per part
    draws: int = 50_000
    distributions: int = 1_000
    chains: int = 16
    leapfrog: int = 10
    start: str = "q"
    repeats: int = 200
    steps: int = 600
    rows: int = 1_000


class Kind(NamedTuple):
    """A kind of measurement: its parts, how to measure one, and the options that matter."""

    parts: Callable[[Options], list[Any]]
    measure: Callable[[VAE, Images, Any, Options], dict[str, Any]]
    options: tuple[str, ...]
    defaults: dict[str, Any]
    models: list[str] = MODELS
    untrained: bool = False  # measures the model before training
    binarizes: bool = False  # gets gray images and binarizes them itself
    split: str = "test"


def image_blocks(options: Options) -> list[slice]:
    starts = range(0, options.images, options.block)
    return [slice(a, min(a + options.block, options.images)) for a in starts]


def one_part(options: Options) -> list[slice]:
    return [slice(0, options.images)]


def measure_nll(model: VAE, images: Images, part: slice, options: Options) -> dict[str, Any]:
    """NLL(k) of each image with bias estimates: lists over ks of lists over images."""
    ks = [k for k in diagnostics.KS if k <= options.draws]
    curve = diagnostics.nll_curve(model, images[part], ks, options.rows)
    rows = {name: getattr(curve, name) for name in curve._fields[1:]}
    return {name: numbers(row) for name, row in rows.items()}


def measure_on_test(model: VAE, images: Images, part: slice, options: Options) -> dict[str, Any]:
    """The negative ELBO, IWAE bound (k = 5) and NLL of each image, all from the same draws."""
    nll = diagnostics.curve_of(_log_weights(model, images[part], options), [1, 5, IS_SAMPLES]).nll
    return dict(zip(("elbo", "iwae5", "nll"), map(numbers, nll), strict=True))


def measure_on_train(model: VAE, images: Images, part: slice, options: Options) -> dict[str, Any]:
    """The same as on-test, of training images."""
    return measure_on_test(model, images, part, options)


def measure_mixture(model: VAE, images: Images, part: slice, options: Options) -> dict[str, Any]:
    """NLL, ESS and Pareto k of draws from the model's own encoder, and from it and a fitted one.

    The second encoder is fitted to the images of the part: see `diagnostics.fit_proposal`.
    """
    own, few = model.encoder, images[part]
    fitted = diagnostics.fit_proposal(model, few.x, options.steps)
    fields = {}
    for name, encoders in {"own": [own], "mixed": [own, fitted]}.items():
        log_w = _log_weights(diagnostics.Mixture(model, encoders), few, options)
        curve = diagnostics.curve_of(log_w, [IS_SAMPLES])
        fields[f"{name}_nll"], fields[f"{name}_ess"] = numbers(curve.nll[0]), numbers(curve.ess[0])
        fields[f"{name}_pareto"] = numbers(diagnostics.pareto_k(log_w))
    return fields


@torch.no_grad()
def _log_weights(model: VAE | diagnostics.Mixture, images: Images, options: Options) -> Tensor:
    return torch.cat([*diagnostics.log_weights(model, images, IS_SAMPLES, options.rows)], 1)


def measure_coupling(model: VAE, images: Images, part: slice, options: Options) -> dict[str, Any]:
    """Mutual information of z and u over HMC draws from each posterior, and over draws from q.

    "mismatched" pairs z of one chain with u of the next, and shows how far from 0 this many draws
    of independent z and u would come out.
    """
    how = (options.draws, options.distributions, options.chains, options.start, options.leapfrog)
    x = images[part].x
    z, u = model.split(ais.posterior_draws(model, x, *how))
    with torch.no_grad():
        of_q = model.split(model.posterior(x).rsample((options.draws * options.chains,)))
    pairs = {"posterior": (z, u), "mismatched": (z, u.roll(1, 1))}
    found = {
        name: mutual_information(*(v.flatten(0, 1) for v in pair)) for name, pair in pairs.items()
    }
    found["q"] = mutual_information(*of_q)
    return {name: numbers(value) for name, value in found.items()}


def mutual_information(
    z: Float[Tensor, "K *N Z"], u: Float[Tensor, "K *N U"]
) -> Float[Tensor, "*N"]:
    """How much z and u say about each other over K draws, in nats, taken as jointly normal.

    Over draws from the posterior of an image this is what q(z | x) q(u | x) must lose: of all such
    products the best has KL(p(z, u | x) || q) equal to the mutual information. From finitely many
    draws it comes out too high, by about dim(z) dim(u) / (2 K) if they are independent.

    Raises:
        ValueError: fewer draws than latents, which leave no covariance to invert.
    """
    joint = torch.cat([z, u], -1).double().movedim(0, -1)
    if joint.shape[-1] <= joint.shape[-2]:
        raise ValueError(
            f"need more draws than latents; got {joint.shape[-1]} of {joint.shape[-2]} latents"
        )
    joint = joint - joint.mean(-1, keepdim=True)
    joint = joint / joint.square().mean(-1, keepdim=True).sqrt()
    correlation, split = joint @ joint.mT / joint.shape[-1], z.shape[-1]
    of_z, of_u = correlation[..., :split, :split], correlation[..., split:, split:]
    return (of_z.logdet() + of_u.logdet() - correlation.logdet()) / 2


def measure_ais(model: VAE, images: Images, part: slice, options: Options) -> dict[str, Any]:
    """AIS, and importance sampling on the same images."""
    annealed = ais.ais(model, images[part].x, **_ais(options))
    sampled = evaluation.nll(model, images[part], IS_SAMPLES, rows=options.rows)
    return {
        **_bound("ais", annealed),
        "is_nll": numbers(sampled.nll),
        "is_se": numbers(sampled.se),
        "is_ess": numbers(sampled.ess),
    }


def measure_bdmc(model: VAE, images: Images, part: slice, options: Options) -> dict[str, Any]:
    """Both bounds, and importance sampling, on images sampled from the model itself.

    "reach" is how far an image's own latents, an exact draw from its posterior, are from q's mean:
    the largest distance along any latent, in standard deviations of q.
    """
    x, latents = ais.simulate(model, part.stop - part.start)
    lower, upper = ais.bdmc(model, x, latents, **_ais(options))
    sampled = evaluation.nll(model, data.from_tensor(x), IS_SAMPLES, rows=options.rows)
    return {
        **_bound("lower", lower),
        **_bound("upper", upper),
        "is_nll": numbers(sampled.nll),
        "is_se": numbers(sampled.se),
        "reach": numbers(_reach(model, x, latents)),
    }


@torch.no_grad()
def _reach(model: VAE, x: Tensor, latents: Tensor) -> Tensor:
    q = model.posterior(x)
    return ((latents - q.mean) / q.stddev).abs().amax(-1)


def measure_units(model: VAE, images: Images, part: slice, options: Options) -> dict[str, Any]:
    """Variance of the posterior mean and KL of each latent, z first."""
    used = evaluation.units(model, images[part])
    return {"dim_z": model.dim_z, "variance": numbers(used.variance), "kl": numbers(used.kl)}


def measure_pixels(model: VAE, images: Images, part: slice, options: Options) -> dict[str, Any]:
    """The NLL of the same images by four conventions: gray, density, fixed and redrawn.

    "gray" is the cross-entropy of gray pixels, "density" the negative log-density of the continuous
    Bernoulli; "fixed" uses the book's binary test set, "redrawn" another binarization of it.
    """

    def nll(model: VAE, images: Images) -> list[float]:
        return numbers(evaluation.nll(model, images, options.draws, rows=options.rows).nll)

    gray = images[part]
    return {
        "gray": nll(model, gray),
        "density": nll(diagnostics.with_gray_density(model), gray),
        "fixed": nll(model, data.binarize_fixed(images)[part]),
        "redrawn": nll(model, data.binarize_fixed(images, seed=1)[part]),
        "entropy": numbers(_entropy(gray.x)),
    }


def _entropy(x: Tensor) -> Tensor:
    """The entropy of each image's pixels taken as Bernoulli probabilities, in nats.

    It is the least possible cross-entropy.
    """
    return -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).flatten(1).sum(1)


def snr_parts(options: Options) -> list[tuple[str, int]]:
    pairs = ((name, k) for k in SNR_KS for name in SNR_ESTIMATORS)
    return [(name, k) for name, k in pairs if not ("miwae8" in name and k % 8)]


def measure_snr(
    model: VAE, images: Images, part: tuple[str, int], options: Options
) -> dict[str, Any]:
    """Signal and noise of the gradient of each block of parameters, on one batch of all images."""
    name, k = part
    estimator = SNR_ESTIMATORS[name]
    measured = gradients.gradient_snr(model, images.x, estimator, k, options.repeats)
    snr = {block: {**value._asdict(), "whole": value.whole} for block, value in measured.items()}
    return {"estimator": name, "k": k, "snr": snr}


def measure_start(
    model: VAE, images: Images, part: tuple[str, int], options: Options
) -> dict[str, Any]:
    """The same as snr, for the model before training."""
    return measure_snr(model, images, part, options)


def _ais(options: Options) -> dict[str, Any]:
    return {
        "n_distributions": options.distributions,
        "chains": options.chains,
        "start": options.start,
        "leapfrog": options.leapfrog,
        "rows": options.rows,
    }


def _bound(name: str, bound: ais.AIS) -> dict[str, Any]:
    """A record's fields for a bound on log p(x), which becomes an NLL."""
    return {
        f"{name}_nll": numbers(-bound.log_p),
        f"{name}_se": numbers(bound.se),
        f"{name}_ess": numbers(bound.ess),
        f"{name}_acceptance": numbers(bound.acceptance),
    }


def numbers(values: Tensor) -> list[Any]:
    """Values for JSON, rounded to five decimals; NaN becomes None."""
    return rounded(values.tolist(), 5)


CHAINS = ("distributions", "chains", "leapfrog", "start")
SNR = Kind(
    snr_parts,
    measure_snr,
    ("repeats",),
    {"images": 20},
    ["plain-iwae5", "affine-iwae5"],
)
ON_TEST = Kind(image_blocks, measure_on_test, ("block",), {"images": 1_000}, LOOKS)
KINDS = {
    "nll": Kind(image_blocks, measure_nll, ("block", "draws"), {"images": 500}),
    "ais": Kind(
        image_blocks,
        measure_ais,
        ("block", *CHAINS),
        {},
        # The last of STRAIGHT, the spline with more epochs, is not trained yet.
        [
            *MODELS,
            *CONVERGED,
            *MULTI,
            "plain-iwae5-modern",
            *names_of("multi5", variant="long"),
            *STRAIGHT[:-1],
        ],
    ),
    "on-test": ON_TEST,
    "on-train": ON_TEST._replace(measure=measure_on_train, split="train"),
    "mixture": Kind(
        image_blocks,
        measure_mixture,
        ("block", "steps"),
        {"images": 500, "block": 500},
        [name for name in LOOKS if "pose" not in name],
    ),
    "coupling": Kind(
        image_blocks,
        measure_coupling,
        ("block", "draws", *CHAINS),
        {"images": 50, "draws": 200, "distributions": 200},
        [
            *(name for name in LOOKS if not name.startswith("plain")),
            "tps-straight-iwae5-modern",
        ],
    ),
    "bdmc": Kind(image_blocks, measure_bdmc, ("block", *CHAINS), {}),
    "units": Kind(one_part, measure_units, (), {"images": 10_000}, [*VAES, *MODELS]),
    "pixels": Kind(
        image_blocks,
        measure_pixels,
        ("block", "draws"),
        {"images": 500, "draws": IS_SAMPLES},
        ["plain-vae", "plain-vae-binarized"],
        binarizes=True,
    ),
    "snr": SNR,
    "start": SNR._replace(measure=measure_start, models=["plain-iwae5"], untrained=True),
}
