"""Measure trained models in more detail than their run records: `python -m tvae_core.measure`.

Each kind of measurement of each model has one record, FOLDER/KIND-MODEL.json, which grows part by
part; a command that was stopped resumes after the last complete part. A record made with other
options is never extended or overwritten. If the package does not contain a run's weights, they are
taken from `TVAE_RUNS`, or trained with the profile in `TVAE_PROFILE`; the book's records used the
profile "paper".

    python -m tvae_core.measure nll --models plain-iwae5 affine-iwae5 tps-iwae5 --images 1000
    python -m tvae_core.measure ais --models affine-iwae5 --images 100 --distributions 1000
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tvae_core import ais, bounds, data, diagnostics, estimators, evaluation, gradients, models
from tvae_core.data import Images
from tvae_core.estimators import Estimator
from tvae_core.experiments import runner
from tvae_core.experiments.acceleration import fast_arithmetic
from tvae_core.experiments.configs import names_of
from tvae_core.experiments.fingerprint import digest, digits, in_double_precision
from tvae_core.experiments.records import Machine, versions
from tvae_core.experiments.results import (
    MEASURED,
    Run,
    build,
    load_pretrained,
    recorded,
    shipped,
)
from tvae_core.models import VAE
from tvae_core.runtime import pick_device, seeded, write_atomically

MODELS = names_of("iwae5")
CONVERGED = names_of("iwae5", variant="long")
MULTI = names_of("multi5")
STRAIGHT = [
    f"{model}-straight-iwae5-{recipe}"
    for model in ("affine", "tps")
    for recipe in ("modern", "long")
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
    summary: Callable[[dict[str, Any]], list[str]]
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
    with torch.no_grad():
        weights = diagnostics.log_weights(model, images[part], IS_SAMPLES, options.rows)
        nll = diagnostics.curve_of(torch.cat(list(weights), 1), [1, 5, IS_SAMPLES]).nll
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
        mixture = diagnostics.Mixture(model, encoders)
        with torch.no_grad():
            weights = diagnostics.log_weights(mixture, few, IS_SAMPLES, options.rows)
            log_w = torch.cat(list(weights), 1)
        curve = diagnostics.curve_of(log_w, [IS_SAMPLES])
        fields[f"{name}_nll"], fields[f"{name}_ess"] = numbers(curve.nll[0]), numbers(curve.ess[0])
        fields[f"{name}_pareto"] = numbers(diagnostics.pareto_k(log_w))
    return fields


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
        name: diagnostics.mutual_information(*(v.flatten(0, 1) for v in pair))
        for name, pair in pairs.items()
    }
    found["q"] = diagnostics.mutual_information(*of_q)
    return {name: numbers(value) for name, value in found.items()}


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

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(plain, value))
        return None if math.isnan(value) else round(value, 5)

    return plain(values.tolist())


def snr_summary(record: dict[str, Any]) -> list[str]:
    """One line per estimator and k."""
    return [
        f"  {part['estimator']:22} k={part['k']:<3}"
        + "".join(f"  {block} {value['whole']:.3f}" for block, value in part["snr"].items())
        for part in record["parts"]
    ]


def units_summary(record: dict[str, Any]) -> list[str]:
    """The number of active latents."""
    (part,) = record["parts"]
    active = [variance > evaluation.ACTIVE for variance in part["variance"]]
    z, u = active[: part["dim_z"]], active[part["dim_z"] :]
    return [f"  active: {sum(z)} of {len(z)} in z, {sum(u)} of {len(u)} in u"]


def means(record: dict[str, Any]) -> list[str]:
    """One line per column, with its means over images."""
    lines = []
    for name, values in columns(record).items():
        over_images = values.mean(-1).flatten().tolist()
        lines.append(f"  {name:17}" + " ".join(f"{mean:9.3f}" for mean in over_images))
    return lines


CHAINS = ("distributions", "chains", "leapfrog", "start")
SNR = Kind(
    snr_parts,
    measure_snr,
    snr_summary,
    ("repeats",),
    {"images": 20},
    ["plain-iwae5", "affine-iwae5"],
)
ON_TEST = Kind(image_blocks, measure_on_test, means, ("block",), {"images": 1_000}, LOOKS)
KINDS = {
    "nll": Kind(image_blocks, measure_nll, means, ("block", "draws"), {"images": 500}),
    "ais": Kind(
        image_blocks,
        measure_ais,
        means,
        ("block", *CHAINS),
        {},
        [*MODELS, *CONVERGED, *MULTI, *names_of("multi5", variant="long"), LOOKS[-1]],
    ),
    "on-test": ON_TEST,
    "on-train": ON_TEST._replace(measure=measure_on_train, split="train"),
    "mixture": Kind(
        image_blocks,
        measure_mixture,
        means,
        ("block", "steps"),
        {"images": 500, "block": 500},
        [name for name in LOOKS if "pose" not in name],
    ),
    "coupling": Kind(
        image_blocks,
        measure_coupling,
        means,
        ("block", "draws", *CHAINS),
        {"images": 50, "draws": 200, "distributions": 200},
        [name for name in LOOKS if not name.startswith("plain")],
    ),
    "bdmc": Kind(image_blocks, measure_bdmc, means, ("block", *CHAINS), {}),
    "units": Kind(one_part, measure_units, units_summary, (), {"images": 10_000}, [*VAES, *MODELS]),
    "pixels": Kind(
        image_blocks,
        measure_pixels,
        means,
        ("block", "draws"),
        {"images": 500, "draws": IS_SAMPLES},
        ["plain-vae", "plain-vae-binarized"],
        binarizes=True,
    ),
    "snr": SNR,
    "start": SNR._replace(measure=measure_start, models=["plain-iwae5"], untrained=True),
}
# The case for which the fingerprint of each kind is computed.
TINY = Options(
    images=2,
    block=1,
    draws=20,
    distributions=3,
    chains=2,
    leapfrog=2,
    repeats=3,
    steps=2,
    rows=30,
)


def fingerprint(kind: str) -> str:
    """How this kind of measurement behaves, as 16 hexadecimal digits.

    It measures the centres of two bundled digits on a small untrained affine model: see
    `tvae_core.experiments.fingerprint`. On whole digits HMC would be chaotic and amplify rounding
    errors. For the SNR, only the cases with up to 8 draws are included.
    """
    how = KINDS[kind]
    with in_double_precision():
        seen = images = data.from_tensor(digits(TINY.images, "test").x[..., 11:17, 11:17])
        model = models.build("affine", images.size, dim_z=3, dim_u=2, hidden=(8,))
        if not how.binarizes:
            seen = data.binarize_fixed(images)
        parts = [p for p in how.parts(TINY) if isinstance(p, slice) or p[1] <= 8]
        return digest([how.measure(model, seen, part, TINY) for part in parts])


def trained(name: str) -> Run:
    """The shipped run; if its weights are not shipped, seed 0 with the current profile.

    The latter is trained now, unless it is in `TVAE_RUNS`.
    """
    if name in shipped():
        return load_pretrained(name)
    return runner.run(name, *runner.load_data())


def measured_model(kind: str, run: Run) -> VAE:
    """The model that a kind measures: the trained one, or the one before training."""
    if not KINDS[kind].untrained:
        return run.model
    with seeded(0):
        return build(run.record.config).to(pick_device())


def measure(kind: str, name: str, images: Images, options: Options, folder: Path) -> dict[str, Any]:
    """Measure the missing parts of one record, and return it.

    Each part is seeded by its index, so that a record does not depend on where it was interrupted.

    Raises:
        ValueError: the folder has a record of this name that is damaged, or that was made with
            other options, images or weights, or by code that behaves differently.
    """
    how, path = KINDS[kind], folder / f"{kind}-{name}.json"
    run = trained(name)
    model = measured_model(kind, run)
    seen = data.binarize_fixed(images) if run.record.binary and not how.binarizes else images
    fixed = {
        "kind": kind,
        "model": name,
        "options": {key: getattr(options, key) for key in how.options},
        "data": runner.describe(seen),
        "weights": _weights_hash(model),
        "fingerprint": fingerprint(kind),
    }
    record: dict[str, Any] = {
        **fixed,
        "versions": versions(),
        "machine": dataclasses.asdict(Machine.here(seen.pixels.device)),
        "seconds": 0.0,
        "parts": [],
    }
    if path.exists():
        record = _resumed(path, fixed)
    parts = how.parts(dataclasses.replace(options, images=len(images)))
    for index in range(len(record["parts"]), len(parts)):
        start = time.perf_counter()
        with seeded(index):
            record["parts"].append(how.measure(model, seen, parts[index], options))
        record["seconds"] += time.perf_counter() - start
        write_atomically(path, _json(record).encode())
        left = record["seconds"] / (index + 1) * (len(parts) - index - 1)
        print(f"{path.stem}: {index + 1} of {len(parts)} parts, {left / 60:.0f} min left")
    return record


def _json(record: dict[str, Any]) -> str:
    """JSON with one line per field, and one per part."""
    lines = [
        f'"{name}": {json.dumps(value, allow_nan=False)}'
        for name, value in record.items()
        if name != "parts"
    ]
    parts = ",\n".join(json.dumps(part, allow_nan=False) for part in record["parts"])
    return "{\n" + ",\n".join([*lines, f'"parts": [\n{parts}\n]']) + "\n}\n"


def _resumed(path: Path, fixed: dict[str, Any]) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        differs = [name for name, value in fixed.items() if record[name] != value]
        if not isinstance(record["parts"], list) or not isinstance(record["seconds"], float):
            raise TypeError("no parts")
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a complete record ({error!r}); delete it") from error
    if differs:
        raise ValueError(
            f"{path} was measured with other {', '.join(differs)}; delete it, or choose another "
            "--folder"
        )
    return record


def _weights_hash(model: VAE) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def columns(record: dict[str, Any]) -> dict[str, Tensor]:
    """The fields of a record's parts, joined along the images (the last axis); None becomes NaN.

    Raises:
        ValueError: the kind is not measured in blocks of images, so there is nothing to join.
    """
    kinds = [name for name, kind in KINDS.items() if kind.parts is image_blocks]
    if record["kind"] not in kinds:
        raise ValueError(
            f"a record of {record['kind']!r} has no columns of images, as those of "
            f'{", ".join(kinds)} have; read its "parts"'
        )

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(filled, value))
        return math.nan if value is None else value

    def tensor(values: list[Any]) -> Tensor:
        return torch.tensor(filled(values), dtype=torch.float64)

    first, *_ = record["parts"]
    return {n: torch.cat([tensor(part[n]) for part in record["parts"]], -1) for n in first}


@fast_arithmetic()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the chosen models in one way."""
    chosen = _parse(arguments)
    given = {name: value for name, value in vars(chosen).items() if name in (*NUMBERS, "start")}
    options = Options(**{**KINDS[chosen.kind].defaults, **given})
    split = data.load("mnist", KINDS[chosen.kind].split, fallback="mini").to(pick_device())
    images = runner.spread(split, options.images)
    for name in chosen.models or KINDS[chosen.kind].models:
        record = measure(chosen.kind, name, images, options, chosen.folder)
        print(summary(record))


def summary(record: dict[str, Any]) -> str:
    """The results in a few lines."""
    head = f"{record['kind']}, {record['model']}, {record['data']['n']} images"
    head += f", {record['seconds'] / record['data']['n']:.2f} s an image"
    return "\n".join([head, *KINDS[record["kind"]].summary(record)])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tvae_core.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("kind", choices=KINDS, help="; ".join(map(_describe, KINDS)))
    add(
        "--models",
        nargs="+",
        choices=recorded(),
        metavar="MODEL",
        help="the models to measure (default: those that the book measures in this way)",
    )
    for name, meaning in NUMBERS.items():
        add(f"--{name}", type=_count, default=argparse.SUPPRESS, help=meaning)
    add(
        "--start",
        choices=ais.STARTS,
        default=Options.start,
        help="where AIS chains start (default: %(default)s)",
    )
    add(
        "--folder",
        type=Path,
        default=MEASURED,
        help="where records are stored (default: %(default)s)",
    )
    return parser.parse_args(arguments)


NUMBERS = {
    "images": "number of images, spread evenly over the split (default: see the kinds)",
    "block": f"images per part of the record (default: {Options.block})",
    "draws": f"draws from q per image (default: {Options.draws}; for pixels {IS_SAMPLES})",
    "distributions": f"annealing steps of AIS (default: {Options.distributions})",
    "chains": f"AIS chains per image (default: {Options.chains})",
    "leapfrog": f"leapfrog steps per AIS transition (default: {Options.leapfrog})",
    "steps": f"steps that fit the second encoder of a mixture (default: {Options.steps})",
    "repeats": f"gradients whose mean and variance are computed (default: {Options.repeats})",
    "rows": f"latents decoded at once; use more on a GPU (default: {Options.rows})",
}


def _describe(kind: str) -> str:
    """The kind's name, what it measures, and its default number of images."""
    what = (KINDS[kind].measure.__doc__ or "").partition(".")[0].partition(":")[0]
    return f"{kind}: {what}; {Options(**KINDS[kind].defaults).images} images"


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
