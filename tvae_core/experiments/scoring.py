"""Score a model on pictures whose poses are known, in one call.

    before, after = (moved.moved(digits, moved.FAMILY, moved.CANVAS, seed=s) for s in (1, 2))
    found = scoring.score(model, before, after)
    found["moves"]["degrees"]["error"]  # in degrees: does the inferred turn follow a known one?
    found["moves"]["degrees"]["covered"]  # the share within two of the model's deviations: 0.95?
    found["poses"]["degrees"]["error"]  # does it agree with that of other pictures?
    found["explained"]["degrees"]  # the share of the true turn's variance that it explains
    found["contents"]["z"]["linear"]  # the share of pictures whose class a linear probe reads off z
    found["contents"]["z"]["turn"]  # the share of the turn's variance that z explains: a leak
    found["contents"]["z"]["style"]  # as "linear", for the typeface of letters

A model that was not built with this book comes as a `Reader`, which is two functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tvae_core import data, poses, scores
from tvae_core.checks import check
from tvae_core.data import Images
from tvae_core.experiments import turns
from tvae_core.experiments.turns import QuarterTurns
from tvae_core.models import VAE, WarpedDecoder
from tvae_core.runtime import seeded

# A turn, shift or log-scale that varies less is constant, up to rounding.
LEAST_SPREAD = 1e-4


class Reader(NamedTuple):
    """What is scored of a model: how it reads poses, and what probes may look at.

    `maps(images, reference)` returns P of each image in pixels, (N, 2, 3) on the CPU, measured from
    the mean pose of the reference images (as `poses.maps` does), or from any one zero. It is None
    for a model without poses. `features(images)` returns what probes look at, by name, each (N, D)
    on the CPU; leaks are looked for in "z" and "u". It is None if only poses are to be scored.
    Turns are compared up to whole multiples of `period` degrees.
    """

    maps: Callable[[Images, Images], Float[Tensor, "N 2 3"]] | None
    features: Callable[[Images], dict[str, Float[Tensor, "N D"]]] | None
    period: int = 360


def score(model: VAE | Reader, before: Images, after: Images) -> dict[str, Any]:
    """All scores of a model: `score_poses`, and "contents" as `score_contents` finds them.

    "explained" are the shares of the variance of true poses (`scores.explained_poses`). For a VAE,
    "covered" in each of the moves is the share of inferred moves that lie within two standard
    deviations (of the model's own q) of the true ones; it is 0.954 if q knows its errors.

    Without poses, as in a plain VAE, only the contents are scored; without features, only poses.

    Args:
        model: a VAE of this book, which is shown binary pixels, or a `Reader`.
        before: pictures with labels and known poses, such as those of `tvae_core.moved`.
        after: the same things in other poses.

    Raises:
        TypeError: a model from elsewhere without a `Reader`.
        ValueError: pictures without poses or labels, or of other things; a `Reader` that fails.
    """
    reader = reader_of(model)
    if not (reader.maps or reader.features):
        raise ValueError("this Reader has neither maps nor features: give it at least one of them")
    _check_pair(before, after)
    if reader.features:
        _targets(before)  # for its errors, before all poses are read
    found: dict[str, Any] = {}
    if reader.maps:
        a, b = _read_poses(reader.maps, before, after)
        found = _score_maps(a, b, before, after, reader.period)
        found["explained"] = scores.explained_poses(a, known(before))
        if not isinstance(model, Reader):
            for unit, share in _covered(model, before, after).items():
                found["moves"][unit]["covered"] = share
    return {**found, "contents": score_contents(reader, before)} if reader.features else found


def _covered(model: VAE, before: Images, after: Images) -> dict[str, float]:
    """By unit, the share of inferred differences within two deviations of the true ones."""
    read: Any = turns.table if isinstance(model, QuarterTurns) else poses.table
    seen = [data.binarize_fixed(before), data.binarize_fixed(after)]
    true = [poses.decompose(known(images)) for images in (before, after)]
    with seeded(0):
        tables = [read(model, images, seen[0]) for images in seen]
    shares = {}
    for unit in (name for name in poses.UNITS if name in tables[0].columns):
        off = tables[1][unit] - tables[0][unit] - (true[1][unit] - true[0][unit])
        if unit == "degrees":
            off = scores.short_way(off)
        sd = torch.hypot(*(table[f"{unit}_sd"] for table in tables))
        shares[unit] = (off.abs() <= 2 * sd).double().mean().item()
    return shares


def score_poses(reader: VAE | Reader, before: Images, after: Images) -> dict[str, Any]:
    """Scores of inferred poses, by unit: of the moves from one picture of each thing to another
    ("moves"), and of the poses themselves, one zero for all ("poses").

    Raises:
        ValueError: a model without poses, or pictures whose poses are not known.
    """
    reader = reader_of(reader)
    if reader.maps is None:
        raise ValueError("this model has no poses to score; score its contents")
    _check_pair(before, after)
    a, b = _read_poses(reader.maps, before, after)
    return _score_maps(a, b, before, after, reader.period)


def _read_poses(
    maps: Callable[[Images, Images], Tensor], before: Images, after: Images
) -> tuple[Tensor, Tensor]:
    """P of the pictures before and after, from the zero of those before."""
    known(before), known(after)  # for their errors, before anything is read
    what, shape = "the Reader's maps", Float[Tensor, "N 2 3"]
    a, b = (_read(what, maps(x, before), shape, len(x)) for x in (before, after))
    return a, b


def _score_maps(a: Tensor, b: Tensor, before: Images, after: Images, period: int) -> dict[str, Any]:
    placed = known(before)
    true = poses.compose(known(after), poses.inverse(placed))
    upright = torch.eye(2, 3).expand(len(a), 2, 3)
    return {
        "moves": _plain(scores.moves(a, b, true, period)),
        "poses": _plain(scores.moves(upright, a, placed, period)),
    }


def score_contents(reader: VAE | Reader, pictures: Images) -> dict[str, Any]:
    """What probes find in each of a model's features: the class, the turn and the shift.

    Also the style, if it is known and at least two styles have a picture for each fold. What does
    not vary among the pictures is left out.

    Raises:
        ValueError: pictures without labels, or whose poses are not known; or too few of a class.
    """
    reader = reader_of(reader)
    if reader.features is None:
        raise ValueError("this Reader has no features to probe; score its poses")
    units, labels = _targets(pictures)
    styles = _styles(pictures)
    angle = torch.deg2rad(units["degrees"])
    turn = angle.sin()[:, None]  # which says all within a quarter turn either way
    if units["degrees"].abs().max() > 90:
        turn = torch.stack([angle.cos(), angle.sin()], 1)
    shift = torch.stack([units["shift_x"], units["shift_y"]], 1)
    targets = {"turn": turn, "shift": shift}
    targets = {what: of for what, of in targets.items() if of.std(0).min() > LEAST_SPREAD}
    features, found, n = reader.features(pictures), {}, len(pictures)
    check("the Reader's features", features, dict)
    features = {
        name: _read(f"the feature {name!r}", values, Float[Tensor, "N D"], n)
        for name, values in features.items()
    }
    for name, values in features.items():
        found[name] = scores.probes(values, labels.cpu())._asdict()
        if styles is not None:
            found[name]["style"] = scores.probes(values, styles).linear
        for what, target in targets.items():
            found[name][what] = scores.explained(values, target)
        if name in ("z", "u") and "turn" in targets:
            found[name]["turn_forest"] = scores.explained(values, turn, forest=True)
        if name not in ("z", "u"):
            found[name]["variance"] = scores.within_class_variance(values, labels.cpu())
    if "z" in features and len(targets) == 2:
        factors = torch.cat([turn, shift, units["scale_x"].log()[:, None]], 1)
        factors = factors[:, factors.std(0) > LEAST_SPREAD]
        latents = torch.cat([features[name] for name in ("z", "u") if name in features], 1)
        if latents.shape[1] > 1:  # DCI of a single latent is not defined
            found["latents"] = scores.dci(latents, factors)._asdict()
    return found


def reader_of(model: VAE | Reader) -> Reader:
    """How a model of this book is scored: at the mean of q, on binary pixels."""
    if isinstance(model, Reader):
        return model
    if not isinstance(model, VAE):
        raise TypeError(
            f"cannot score a {type(model).__name__}: pass a VAE of this book, or a scoring.Reader "
            "with two functions that read a model from elsewhere"
        )
    placed = isinstance(model.decoder, WarpedDecoder)
    if model.dim_u and not placed:
        raise TypeError(
            f"the poses of a {type(model.decoder).__name__} cannot be read, only those of a "
            "models.WarpedDecoder: pass a scoring.Reader with a function that reads them"
        )
    return Reader(functools.partial(_maps, model) if placed else None, _features(model))


def axes(images: Images, reference: Images) -> Float[Tensor, "N 2 3"]:
    """P of each image as `poses.moments` finds it, the mean axis of the reference being upright.

    It sees binary pixels, as the models do. A mean axis says nothing where the reference images lie
    in all directions.
    """
    seen, others = data.binarize_fixed(images), data.binarize_fixed(reference)
    twice = torch.deg2rad(2 * poses.moments(others)["degrees"])  # an axis has no direction
    zero = scores.mean_angle(twice) / 2
    back = torch.tensor([[zero.cos(), -zero.sin()], [zero.sin(), zero.cos()]])
    maps = poses.moments_maps(seen)
    return torch.cat([back @ maps[..., :2], maps[..., 2:]], -1)


def _pixels(images: Images) -> dict[str, Tensor]:
    return {"pixels": data.binarize_fixed(images).x.flatten(1).cpu()}


MOMENTS = Reader(axes, _pixels, period=180)  # the baseline without learning


def _maps(model: VAE, images: Images, reference: Images) -> Tensor:
    """`poses.maps`, of a model with or without quarter turns."""
    seen, others = data.binarize_fixed(images), data.binarize_fixed(reference)
    if isinstance(model, QuarterTurns):
        return turns.maps(model, seen, others)
    return poses.maps(model, seen, others)


def _features(model: VAE) -> Callable[[Images], dict[str, Tensor]]:
    """`scores.features` and straightened images; of pictures that quarter turns turned back."""

    def features(images: Images) -> dict[str, Tensor]:
        seen, base = data.binarize_fixed(images), model
        if isinstance(model, QuarterTurns):
            seen, base = turns.turn_back(model, seen).back, model.base
        found = scores.features(base, seen)
        if "u" in found:
            found["straightened"] = poses.align(base, seen).straightened.flatten(1).cpu()
        return found

    return features


def known(pictures: Images) -> Tensor:
    """Their true poses, on the CPU like all poses."""
    if pictures.maps is None:
        raise ValueError(
            "the poses of these pictures are not known: make some with `tvae_core.moved`, or set "
            "`Images.maps` to their maps in pixels, (N, 2, 3)"
        )
    return pictures.maps.cpu()


def _check_pair(before: Images, after: Images) -> None:
    """Raise an error unless these may be the same things in two poses."""
    check("before", before, Images)
    check("after", after, Images)
    same = "before and after must show the same things in the same order"
    if len(before) != len(after):
        raise ValueError(f"{same}, got {len(before)} pictures and {len(after)}")
    if before.labels is not None and after.labels is not None:
        differ = int((before.labels.cpu() != after.labels.cpu()).sum())
        if differ:
            raise ValueError(f"{same}, but {differ} of {len(before)} labels differ")


def _targets(pictures: Images) -> tuple[dict[str, Tensor], Tensor]:
    """What probes predict: true poses in units, and labels; an error if they cannot."""
    check("pictures", pictures, Images)
    units, labels = poses.decompose(known(pictures)), pictures.labels
    if labels is None:
        raise ValueError(
            "probes need the class of each picture, and these have no labels: pass some with labels"
        )
    counts = labels.unique(return_counts=True)[1]
    if len(counts) < 2 or counts.min() < scores.FOLDS:
        raise ValueError(
            f"probes need at least two classes with {scores.FOLDS} pictures each; got "
            f"{len(counts)}, the smallest with {counts.min()}: pass more pictures or fewer classes"
        )
    return units, labels


def _styles(pictures: Images) -> Tensor | None:
    """Styles that a probe can be trained on."""
    if pictures.styles is None:
        return None
    counts = pictures.styles.unique(return_counts=True)[1]
    return pictures.styles.cpu() if len(counts) > 1 and counts.min() >= scores.FOLDS else None


def _read(what: str, values: Any, shape: Any, n: int) -> Tensor:
    """What a Reader returned for n pictures, without a gradient; an error if it cannot be used."""
    check(what, values, shape)
    if len(values) != n:
        raise ValueError(f"{what} must have a row for each of {n} pictures, got {len(values)} rows")
    bad = n - int(values.isfinite().flatten(1).all(1).sum())
    if bad:
        raise ValueError(f"{what}: NaN or infinite for {bad} of {n} pictures; leave these out")
    return values.detach().cpu()


def _plain(found: dict[str, scores.MoveScore]) -> dict[str, Any]:
    return {unit: score._asdict() for unit, score in found.items()}
