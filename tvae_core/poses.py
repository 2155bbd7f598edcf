"""Poses in units: how far a picture is turned, shifted, scaled and sheared; and aligned pictures.

A model's u has no units and no zero: turn all its canonical images, and W can turn them back
(chapter 3). What is reported here does not depend on that choice, because every pose is measured
from the **mean pose** of a set of reference images. A point r of the mean pose is seen at

    P r = G^-1 G_mean r,

where G is the affine map of an image's grid, from its pixels to its canonical image, and G_mean the
mean of these maps over the reference set. In pixels, with x to the right and y downwards,

    P = shift + rotation @ [[1, shear], [0, 1]] @ diag(scale_x, scale_y).

For a spline, G is the affine map that fits its grid best under the image's ink, and `bend` is what
the map leaves over.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from tvae_core import evaluation
from tvae_core.data import Images
from tvae_core.models import NO_WARP, VAE, WarpedDecoder
from tvae_core.posteriors import Ordered
from tvae_core.runtime import write_atomically
from tvae_core.warps import pixel_centres, sample

DRAWS = 50  # of u from q, for the mean and the standard deviation of a pose
ROWS = 20_000  # (image, draw) pairs whose poses are computed at once
UNITS = ("degrees", "shift_x", "shift_y", "scale_x", "scale_y", "shear")
NO_NORMAL = "the poses of a {} are not normal under q(u | x): see tvae_core.experiments.turns"
ONE_IMAGE = "one image has no mean pose to measure from: pass several images as `reference`"
NO_MEAN = "the reference images point in all directions and so have no mean pose: pass others"
FLAT = 0.05  # a mean pose with less than this share of its poses' area is no pose


@dataclass(frozen=True)
class Poses:
    """One row per image, as columns by name.

    degrees: the turn, counter-clockwise, from -180 to 180; shift_x, shift_y: pixels to the right
    and downwards; scale_x, scale_y: factors along the picture's own axes; shear: pixels to the
    right for each pixel downwards. A `table` has means over draws from q(u | x), and in NAME_sd the
    standard deviations (for degrees, that of angles on the circle). "reflected" is the share of
    draws with a mirrored picture, "bend" the root mean square of what a spline bends, in pixels,
    and "nll", if asked for, is in nats. A warp that can only shift has columns of shifts alone.
    """

    columns: dict[str, Float[Tensor, "N"]]

    def __getitem__(self, name: str) -> Float[Tensor, "N"]:
        if name not in self.columns:
            raise KeyError(f"this table has no {name!r}, only {', '.join(self.columns)}")
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def to_pandas(self) -> Any:
        """A pandas DataFrame with these columns."""
        import pandas as pd

        return pd.DataFrame({name: values.numpy() for name, values in self.columns.items()})

    def save(self, path: Path | str) -> None:
        """Write as CSV, with six significant digits."""
        rows = zip(*(values.tolist() for values in self.columns.values()), strict=True)
        lines = [",".join(self.columns), *(",".join(f"{v:.6g}" for v in row) for row in rows)]
        write_atomically(Path(path), ("\n".join(lines) + "\n").encode())


class Aligned(NamedTuple):
    """Images in the mean pose: the images themselves, and what the model drew in their place."""

    straightened: Float[Tensor, "N C H W"]
    canonical: Float[Tensor, "N C H W"]


@torch.no_grad()
def table(
    model: VAE,
    images: Images,
    reference: Images | None = None,
    draws: int = DRAWS,
    nll_samples: int = 0,
) -> Poses:
    """The pose of each image, relative to the mean pose of `reference`, by default the images.

    Warns if the reference images lie in all directions, and so have no mean pose.

    Raises:
        TypeError: a model without a warp, or whose q(u | x) is not normal.
        ValueError: images of another size than the model's, one image without a reference, or one
            draw, which has no standard deviation.
    """
    origin = mean_map(model, reference_of(images, reference))
    batches = images.x.split(max(1, ROWS // draws))
    pairs = zip(*(drawn(model, x, draws, origin) for x in batches), strict=True)
    columns = summary(*(torch.cat(parts, 1).cpu() for parts in pairs))
    if not (_decoder(model).warp.to_affine[:, [0, 1, 3, 4]].abs() > 1e-6).any():
        columns = {name: values for name, values in columns.items() if name.startswith("shift")}
    if nll_samples:
        columns["nll"] = evaluation.nll(model, images, nll_samples).nll
    return Poses(columns)


def drawn(model: VAE, x: Tensor, draws: int, origin: Tensor) -> tuple[Tensor, Tensor]:
    """P (K, B, 2, 3) in pixels of each of K draws from q(u | x), and its bend (K, B)."""
    if draws < 2:
        raise ValueError(f"a standard deviation needs at least two draws, got {draws}")
    maps, bend = maps_of(model, x, _pose_posterior(model, x).sample((draws,)))
    return relative(maps, origin, model.size), bend


@torch.no_grad()
def align(model: VAE, images: Images, reference: Images | None = None) -> Aligned:
    """The images, and their canonical images, all in the mean pose of `reference`.

    The reference is by default the images. Uses the mean of q. A straightened image is interpolated
    once, at the inverse of the inferred warp; for a spline that inverse is refined in four steps,
    to about 0.01 pixels where bends are small. Warns as `table` does.

    Raises:
        TypeError: a model without a warp, or whose q(u | x) is not normal.
        ValueError: images of another size than the model's, or one image without a reference.
    """
    origin = mean_map(model, reference_of(images, reference))
    decoder, straightened, canonical = _decoder(model), [], []
    warp = decoder.warp
    frame = _apply(origin, warp.identity)
    for x in images.x.split(evaluation.ROWS):
        latents = model.posterior(x).mean
        u = model.split(latents)[1]
        if warp.bends:
            back = warp.inverse_grid(decoder.pose(u), refine=4)
            grid = sample(back.movedim(-1, -3), frame, "border").movedim(-3, -1)
        else:  # exact, also where the frame leaves the canonical image
            grid = _apply(compose(inverse(maps_of(model, x, u)[0]), origin), warp.identity)
        straightened.append(sample(x, grid))
        canonical.append(sample(model.canonical(latents), frame))
    return Aligned(torch.cat(straightened), torch.cat(canonical))


def moments(images: Images) -> Poses:
    """Poses without a model: centroid, principal axis and spread of each image's ink.

    The baseline of every pose in this book. The principal axis has no direction, so degrees are
    from -90 to 90, and it means little where the ink is about as wide as high. scale_y is the
    spread along it, scale_x the one across, both relative to the mean over the images; shear is 0.

    Raises:
        ValueError: an image without ink.
    """
    ink = _double(images.x.mean(1))
    total = ink.flatten(1).sum(1)
    if not total.all():
        raise ValueError(f"image {int(total.argmin())} has no ink, so it has no pose")
    height, width = ink.shape[-2:]
    at = (pixel_centres((height, width)) * torch.tensor([width, height]) / 2).to(ink.device)
    weight = (ink / total[:, None, None]).flatten(1)
    centre = weight @ at.flatten(0, 1)
    off = at.flatten(0, 1) - centre[:, None]
    spread, axes = torch.linalg.eigh(torch.einsum("np,npi,npj->nij", weight, off, off))
    x, y = axes[:, :, 1].unbind(1)  # the longer axis, which is the upright one of most digits
    long, short = spread[:, 1].sqrt(), spread[:, 0].clamp(min=0).sqrt()
    columns = {
        "degrees": torch.rad2deg(torch.atan(x / y.where(y != 0, torch.full_like(y, 1e-12)))),
        "shift_x": centre[:, 0],
        "shift_y": centre[:, 1],
        "scale_x": short / short.mean(),
        "scale_y": long / long.mean(),
        "shear": torch.zeros_like(long),
    }
    return Poses({name: values.float().cpu() for name, values in columns.items()})


def moments_maps(images: Images) -> Float[Tensor, "N 2 3"]:
    """P of each image in pixels, as `moments` finds it."""
    found = moments(images)
    turn = torch.deg2rad(found["degrees"])  # counter-clockwise, but y points downwards
    rotation = torch.stack([turn.cos(), turn.sin(), -turn.sin(), turn.cos()], -1).view(-1, 2, 2)
    scale, shift = (torch.stack([found[n + "_x"], found[n + "_y"]], -1) for n in ("scale", "shift"))
    return torch.cat([rotation * scale[:, None], shift[..., None]], -1)


@torch.no_grad()
def maps(model: VAE, images: Images, reference: Images | None = None) -> Float[Tensor, "N 2 3"]:
    """P of each image in pixels, at the mean of q, relative to the mean pose of `reference`.

    Raises:
        TypeError: a model without a warp, or whose q(u | x) is not normal.
        ValueError: images of another size than the model's, or one image without a reference.
    """
    reference, found = reference_of(images, reference), _mean_maps(model, images)
    origin = _mean(found) if reference is images else mean_map(model, reference)
    return relative(found, origin, model.size).cpu()


@torch.no_grad()
def mean_map(model: VAE, reference: Images) -> Float[Tensor, "2 3"]:
    """G_mean: the mean over the reference images of their affine maps, at the mean of q."""
    return _mean(_mean_maps(model, reference))


def relative(
    maps: Float[Tensor, "*S 2 3"], origin: Float[Tensor, "2 3"], size: tuple[int, int]
) -> Float[Tensor, "*S 2 3"]:
    """P = G^-1 G_mean in pixels from the centre of the image."""
    height, width = size
    pixels = torch.tensor([width / 2, height / 2], dtype=maps.dtype, device=maps.device)
    moved = compose(inverse(maps), origin) * pixels[:, None]
    return torch.cat([moved[..., :2] / pixels, moved[..., 2:]], -1)


def decompose(maps: Float[Tensor, "*S 2 3"]) -> dict[str, Float[Tensor, "*S"]]:
    """The six numbers of P in pixels, and whether it mirrors (1 or 0)."""
    (a, b), (c, d) = (row.unbind(-1) for row in maps[..., :2].unbind(-2))
    scale_x = torch.hypot(a, c)
    along = (a * d - b * c) / scale_x  # negative for a mirrored picture
    return {
        "degrees": torch.rad2deg(torch.atan2(-c, a)),  # y points downwards
        "shift_x": maps[..., 0, 2],
        "shift_y": maps[..., 1, 2],
        "scale_x": scale_x,
        "scale_y": along.abs(),
        "shear": (a * b + c * d) / scale_x / along,
        "reflected": (along < 0).to(maps.dtype),
    }


def summary(maps: Float[Tensor, "K N 2 3"], bend: Float[Tensor, "K N"]) -> dict[str, Tensor]:
    """The columns of `Poses`: means and standard deviations over K draws of P."""
    units = decompose(maps)
    columns = {}
    for name in UNITS:
        columns[name], columns[f"{name}_sd"] = units[name].mean(0), units[name].std(0, correction=0)
    angle = torch.deg2rad(units["degrees"].double())  # in float32, 1 - length loses small angles
    x, y = angle.cos().mean(0), angle.sin().mean(0)
    length = torch.hypot(x, y).clamp(max=1)
    columns["degrees"] = torch.rad2deg(torch.atan2(y, x)).float()
    columns["degrees_sd"] = torch.rad2deg((-2 * length.log()).clamp(min=0).sqrt()).float()
    columns["bend"], columns["bend_sd"] = bend.mean(0), bend.std(0, correction=0)
    return {**columns, "reflected": units["reflected"].mean(0)}


def reference_of(images: Images, reference: Images | None) -> Images:
    """The images that poses are measured from; a ValueError for one image without a reference."""
    if reference is None and len(images) == 1:
        raise ValueError(ONE_IMAGE)
    return images if reference is None else reference


def _decoder(model: VAE) -> WarpedDecoder:
    if not isinstance(model.decoder, WarpedDecoder):
        raise TypeError(NO_WARP)
    return model.decoder


def _pose_posterior(model: VAE, x: Float[Tensor, "B C H W"]) -> Normal:
    """q(u | x)."""
    q = model.posterior(x)
    if isinstance(q, Ordered):
        return q.u
    if not isinstance(q, Normal):
        raise TypeError(NO_NORMAL.format(type(model).__name__))
    return Normal(model.split(q.mean)[1], model.split(q.stddev)[1], validate_args=False)


def _mean(maps: Float[Tensor, "N 2 3"]) -> Float[Tensor, "2 3"]:
    """Warns if the maps point in all directions: they cancel, and their mean is no zero."""
    mean = maps.mean(0)
    if not mean.isfinite().all():
        raise ValueError("the inferred poses are not finite: the weights are probably NaN")
    if mean[:, :2].det().abs() < FLAT * maps[:, :, :2].det().abs().mean():
        warnings.warn(NO_MEAN, stacklevel=3)
    return mean


def _mean_maps(model: VAE, images: Images) -> Float[Tensor, "N 2 3"]:
    """G of each image at the mean of q."""
    batches = images.x.split(evaluation.ROWS)
    return torch.cat([maps_of(model, x, _pose_posterior(model, x).mean)[0] for x in batches])


def maps_of(
    model: VAE, x: Float[Tensor, "B C H W"], u: Float[Tensor, "*K B U"]
) -> tuple[Float[Tensor, "*K B 2 3"], Float[Tensor, "*K B"]]:
    """G of each u, in normalised coordinates, and the bend of its grid under the ink, in pixels."""
    decoder = _decoder(model)
    warp, theta = decoder.warp, decoder.warp.theta(decoder.pose(u))
    maps = (theta @ warp.to_affine).unflatten(-1, (2, 3)) + torch.eye(2, 3, device=u.device)
    if not warp.bends:
        return maps, torch.zeros_like(u[..., 0])
    # A grid is linear in theta, and so is the map that fits its bend best. What that leaves over,
    # squared and weighted, is quadratic. Both depend on the ink, not on the draw of u.
    points = torch.cat([warp.identity, torch.ones_like(warp.identity[..., :1])], -1).flatten(0, 1)
    points, fields = _double(points), _double(warp.bend.flatten(1, 2))
    ink = _double(x).mean(1).flatten(1) + 1e-3  # a blank image weighs all its pixels equally
    ink = ink / ink.sum(1, keepdim=True)
    moment = _under(ink, torch.einsum("pi,pj->pij", points, points))
    cross = _under(ink, torch.einsum("fpc,pi->pfci", fields, points))
    fit = torch.linalg.solve(moment[:, None], cross, left=False)
    half = torch.tensor([warp.size[1] / 2, warp.size[0] / 2], device=u.device)
    pixels = _double(half) ** 2
    whole = _under(ink, torch.einsum("fpc,gpc,c->pfg", fields, fields, pixels))
    left = whole - torch.einsum("bfci,bgci,c->bfg", cross, fit, pixels)
    theta = _double(theta)
    squared = torch.einsum("...bf,bfg,...bg->...b", theta, left, theta)
    maps = maps + torch.einsum("...bf,bfci->...bci", theta, fit).to(maps)
    return maps, squared.clamp(min=0).sqrt().to(maps)


def _double(values: Tensor) -> Tensor:
    """In float64, on the CPU if the device lacks it, as Apple's does."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _under(ink: Float[Tensor, "B p"], values: Float[Tensor, "p *S"]) -> Float[Tensor, "B *S"]:
    """The mean of values at pixels, weighted by the ink of each image."""
    return (ink @ values.flatten(1)).unflatten(1, values.shape[1:])


def inverse(maps: Float[Tensor, "*S 2 3"]) -> Float[Tensor, "*S 2 3"]:
    """The maps that undo these."""
    linear = torch.linalg.inv(maps[..., :2])
    return torch.cat([linear, -linear @ maps[..., 2:]], -1)


def compose(after: Float[Tensor, "*S 2 3"], first: Float[Tensor, "*S 2 3"]) -> Tensor:
    """The map that applies `first` and then `after`."""
    linear = after[..., :2]
    return torch.cat([linear @ first[..., :2], linear @ first[..., 2:] + after[..., 2:]], -1)


def _apply(maps: Float[Tensor, "*S 2 3"], points: Float[Tensor, "H W 2"]) -> Tensor:
    return points @ maps[..., None, :, :2].mT + maps[..., None, None, :, 2]
