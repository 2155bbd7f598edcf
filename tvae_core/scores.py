"""How well u holds where a picture lies, and z what it shows.

Pose is scored by moves: a picture is encoded before and after a known move, and the move inferred
from the two poses is compared with the true one. The model's convention for "upright" and the
digit's own slant are in both poses and cancel.

What a picture shows is scored by probes, small models that predict its class from features. The
same probes are pointed the wrong way to find leaks: pose from z, and class from u.

Needs scikit-learn: pip install 'tvae-core[scores]'.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tvae_core import poses
from tvae_core.data import Images
from tvae_core.models import VAE

FOLDS = 5
NEIGHBOURS = 5
SEED = 0  # of folds and forests


class MoveScore(NamedTuple):
    """One unit of the inferred moves against the true ones, over images.

    `correlation` is Pearson's, or for degrees the circular one (Jammalamadaka & SenGupta 2001, eq.
    8.2.2); NaN if the true or the inferred moves do not vary. `error` is the median absolute error,
    in the unit: degrees, pixels, for a scale its natural logarithm, and for shear pixels per pixel.
    """

    correlation: float
    error: float


class Probes(NamedTuple):
    """How well a class can be predicted from features: shares of images that are classified right.

    `neighbours` is the vote of the 5 nearest images, `linear` a logistic regression, both on images
    that the probe was not fitted to (5 folds). `clusters` is Ward's clustering into as many
    clusters as there are classes, each matched to one class, the best way.
    """

    neighbours: float
    linear: float
    clusters: float


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018), from 0 to 1.

    Disentanglement: does a latent say something about one factor only? Completeness: is a factor
    found in one latent only? Informativeness: the share of the factors' variance that is predicted.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def moves(
    before: Float[Tensor, "N 2 3"],
    after: Float[Tensor, "N 2 3"],
    true: Float[Tensor, "N 2 3"],
    period: int = 360,
) -> dict[str, MoveScore]:
    """Scores of the inferred moves after @ before^-1, by unit.

    `before` and `after` are poses of the same images (`poses.maps`, with the same reference), and
    `true` is the map in pixels that leads from one to the other, such as `Images.maps`. Turns
    are compared up to whole multiples of `period` degrees: 180 for an axis without a direction.

    Raises:
        ValueError: different numbers of images, fewer than three, or poses that are not finite.
    """
    if not len(before) == len(after) == len(true) >= 3:
        raise ValueError(
            "need the poses of the same images before and after, and their moves, for at least 3 "
            f"images; got {len(before)}, {len(after)} and {len(true)}"
        )
    before, after, true = before.double(), after.double(), true.double()
    inferred, truth = _units(poses.compose(after, poses.inverse(before))), _units(true)
    scores = {}
    for unit in poses.UNITS:
        found, expected = inferred[unit], truth[unit]
        off = found - expected
        if unit == "degrees":
            off = short_way(off, period)
            found, expected = _sines(*(torch.deg2rad(a * 360 / period) for a in (found, expected)))
        scores[unit] = MoveScore(_correlation(found, expected), off.abs().median().item())
    return scores


def explained_poses(
    found: Float[Tensor, "N 2 3"], true: Float[Tensor, "N 2 3"]
) -> dict[str, float]:
    """By unit, the share of the variance of true poses that the found ones explain (R^2).

    A model's zero is a convention, so true = found @ gauge is solved for one gauge, by least
    squares, on every other image; R^2 is that of the rest. It is negative where the mean would be
    closer, and NaN where the true values do not vary. Scales are compared by their logarithm.

    Raises:
        ValueError: different numbers of poses, fewer than six, or poses that are not finite.
    """
    if not len(found) == len(true) >= 6:
        raise ValueError(
            "need the found and the true poses of the same images, at least 6; got "
            f"{len(found)} and {len(true)}"
        )
    found, true = found.double(), true.double()
    target = torch.cat([true[..., :2], true[..., 2:] - found[..., 2:]], -1)
    fit = found[::2, :, :2].flatten(0, 1), target[::2].flatten(0, 1)
    gauge = torch.linalg.lstsq(*fit).solution
    fitted = poses.compose(found, gauge.expand(len(found), 2, 3))
    a, b = (_units(maps[1::2]) for maps in (fitted, true))
    shares = {}
    for unit in poses.UNITS:
        off, spread = a[unit] - b[unit], b[unit] - b[unit].mean()
        if unit == "degrees":
            angles = torch.deg2rad(b[unit])
            off, spread = short_way(off), short_way(torch.rad2deg(angles - mean_angle(angles)))
        varies = spread.square().mean() > 1e-9
        shares[unit] = (1 - (off @ off) / (spread @ spread)).item() if varies else math.nan
    return shares


def _units(maps: Float[Tensor, "N 2 3"]) -> dict[str, Float[Tensor, "N"]]:
    """The numbers of poses, and of the scales their logarithms."""
    if not maps.isfinite().all():
        raise ValueError("some poses are NaN or infinite: leave these images out")
    found = {unit: values.double() for unit, values in poses.decompose(maps).items()}
    return {unit: x.log() if unit.startswith("scale") else x for unit, x in found.items()}


def short_way(degrees: Float[Tensor, "N"], period: int = 360) -> Float[Tensor, "N"]:
    """Differences of angles from -period / 2 to period / 2 degrees, the short way round."""
    return (degrees + period / 2) % period - period / 2


def _check_rows(features: Tensor, targets: Tensor) -> None:
    if len(features) != len(targets):
        rows = f"{len(features)} and {len(targets)} rows"
        raise ValueError(f"features and targets must have a row for each image; got {rows}")
    if not (features.isfinite().all() and targets.isfinite().all()):
        raise ValueError("some features or targets are NaN or infinite: leave these images out")


def _check_varies(targets: Float[Tensor, "N T"]) -> None:
    constant = (targets == targets[0]).all(0).nonzero().flatten().tolist()
    if constant:
        raise ValueError(f"nothing explains a constant target: leave out column {constant[0]}")


def mean_angle(angles: Float[Tensor, "N"]) -> Float[Tensor, ""]:
    """The mean direction of angles in radians."""
    return torch.atan2(angles.sin().mean(), angles.cos().mean())


def _correlation(a: Float[Tensor, "N"], b: Float[Tensor, "N"]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = (a.square().sum() * b.square().sum()).sqrt()
    return (a @ b / norm).item() if norm > 1e-9 * len(a) else float("nan")


def _sines(found: Float[Tensor, "N"], true: Float[Tensor, "N"]) -> tuple[Tensor, Tensor]:
    """Of angles in radians, off their mean direction.

    If the true ones lie all around the circle (Rayleigh's test, at a level of 0.001), their mean
    direction is chance. Then it is taken off both, because a move of 0 is the same for both.
    """
    zero = mean_angle(true)
    uniform = len(true) * (true - zero).cos().mean() ** 2 < 6.9
    return (found - (zero if uniform else mean_angle(found))).sin(), (true - zero).sin()


@torch.no_grad()
def features(model: VAE, images: Images) -> dict[str, Float[Tensor, "N D"]]:
    """What probes look at: the pixels, z, and for a model with a warp u and the canonical image.

    z and u are the means of q.
    """
    latents = torch.cat([model.posterior(x).mean for x in images.x.split(1_000)])
    z, u = model.split(latents)
    found = {"pixels": images.x.flatten(1), "z": z}
    if u.shape[1]:
        found |= {"u": u, "canonical": model.canonical(latents).flatten(1)}
    return {name: values.cpu() for name, values in found.items()}


def probes(x: Float[Tensor, "N D"], labels: Int64[Tensor, "N"]) -> Probes:
    """How well the class can be predicted from these features.

    Ward's clustering needs memory for all pairs of images: use at most about 10,000.

    Raises:
        ValueError: fewer than two classes, a class with fewer images than folds, or rows that do
            not fit or are not finite.
    """
    _check_rows(x, labels)
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import confusion_matrix
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes, y = np.unique(labels.numpy(), return_inverse=True)
    fewest = np.bincount(y).min()
    if len(classes) < 2 or fewest < FOLDS:
        raise ValueError(
            f"probes need at least two classes with {FOLDS} images each; got {len(classes)} "
            f"classes, the smallest with {fewest}"
        )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    values = x.numpy()
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    scores = [
        cross_val_score(probe, values, y, cv=folds).mean()
        for probe in (KNeighborsClassifier(NEIGHBOURS), linear)
    ]
    found = AgglomerativeClustering(len(classes)).fit_predict(values)
    table = confusion_matrix(y, found)
    matched = table[linear_sum_assignment(-table)].sum() / len(y)
    return Probes(float(scores[0]), float(scores[1]), float(matched))


def explained(x: Float[Tensor, "N D"], target: Float[Tensor, "N T"], forest: bool = False) -> float:
    """R^2 of the targets by a regression on features, on images that it was not fitted to.

    The mean over the targets, each at least 0. The regression is ridge, which is linear, or a
    random forest, which also finds what is not. For an angle pass its cosine and sine.

    Raises:
        ValueError: rows that do not fit, or are not finite, or a target that is constant.
    """
    _check_rows(x, target)
    _check_varies(target)
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 5, 9)))
    if forest:
        probe = RandomForestRegressor(100, min_samples_leaf=5, random_state=SEED)
    folds = KFold(FOLDS, shuffle=True, random_state=SEED)
    features, y = x.double().numpy(), target.double().numpy()
    found = cross_val_predict(probe, features, y if len(y.T) > 1 else y[:, 0], cv=folds)
    off = y - found.reshape(y.shape)
    return float(np.clip(1 - (off**2).sum(0) / ((y - y.mean(0)) ** 2).sum(0), 0, None).mean())


def dci(x: Float[Tensor, "N D"], factors: Float[Tensor, "N F"]) -> DCI:
    """DCI of latents for known factors, with importances from forests of trees.

    Raises:
        ValueError: fewer than two latents or factors, for which the scores are not defined; a
            factor that is constant; rows that do not fit or are not finite.
    """
    _check_rows(x, factors)
    _check_varies(factors)
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import train_test_split

    n, m = x.shape[1], factors.shape[1]
    if min(n, m) < 2:
        raise ValueError(f"DCI needs at least two latents and two factors, got {n} and {m}")
    fit_x, test_x, fit_y, test_y = train_test_split(
        x.numpy(), factors.numpy(), test_size=0.3, random_state=SEED
    )
    importance, known = [], []
    for fit, test in zip(fit_y.T, test_y.T, strict=True):
        forest = RandomForestRegressor(100, min_samples_leaf=5, random_state=SEED, n_jobs=-1)
        forest.fit(fit_x, fit)
        importance.append(forest.feature_importances_)
        known.append(max(0.0, forest.score(test_x, test)))
    R = np.stack(importance, 1) + 1e-12  # (latents, factors)

    def focus(rows: np.ndarray) -> np.ndarray:
        """1 minus the entropy of each row, in units of the largest possible one."""
        p = rows / rows.sum(1, keepdims=True)
        return 1 + (p * np.log(p)).sum(1) / np.log(rows.shape[1])

    weight = R.sum(1) / R.sum()
    return DCI(float(weight @ focus(R)), float(focus(R.T).mean()), float(np.mean(known)))


def within_class_variance(x: Float[Tensor, "N *D"], labels: Int64[Tensor, "N"]) -> float:
    """Variance around the mean of an image's class, summed over pixels, averaged over images."""
    _check_rows(x, labels)
    x = x.flatten(1)
    groups = (x[labels == c] for c in labels.unique())
    return sum((group - group.mean(0)).square().sum().item() for group in groups) / len(x)
