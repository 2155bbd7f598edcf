"""Plots on a given Axes, in one style: black on white, readable in print, on a dark page and with
colour blindness. Every function returns the Axes that it drew on."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray
from torch import Tensor

from tvae_core.checks import hold

# Okabe & Ito's palette, distinguishable with colour blindness and in gray; most legible first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, ACCENT = "gray_r", COLOURS[1]


def use_style() -> None:
    """Set matplotlib's defaults for the rest of the notebook."""
    markers = ("o", "s", "^", "D", "v", "P")
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.2),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "font.size": 12,  # a phone shows figures at less than half size
            "axes.titlesize": 12,
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(marker=markers),
            "grid.color": "#dddddd",
            "lines.markersize": 3.5,
            "legend.frameon": False,
            "image.cmap": INK,
        }
    )


def _bare(ax: Axes, title: str) -> Axes:
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color="#999999")
    return ax


def _array(x: Tensor) -> NDArray[Any]:
    """As an array: with a tensor, numpy would warn at each operation of matplotlib."""
    return np.asarray(x.detach().cpu())


def image(ax: Axes, x: Tensor, title: str = "") -> Axes:
    """One image in a frame: (1, H, W) or (H, W) with 1 as black, or (3, H, W) in its colours."""
    shown = x.movedim(0, -1) if x.shape[:-2] == (3,) else x.reshape(x.shape[-2:])
    ax.imshow(_array(shown.float()), cmap=INK, vmin=0, vmax=1)
    return _bare(ax, title)


def tiles(ax: Axes, images: Float[Tensor, "N 1 H W"], columns: int = 10, title: str = "") -> Axes:
    """N images in rows of `columns`, separated by light lines."""
    count, _, height, width = images.shape
    n_rows = -(-count // columns)
    sheet = torch.full((n_rows * (height + 1) - 1, columns * (width + 1) - 1), 0.25)
    for i, x in enumerate(images.detach().cpu()):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = x[0]
    return image(ax, sheet, title)


def rows(ax: Axes, named: Mapping[str, Float[Tensor, "N 1 H W"]], title: str = "") -> Axes:
    """A row of N images for each name, with the name on the left."""
    counts = {name: len(images) for name, images in named.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"all rows need the same number of images, got {counts}")
    stacked = torch.cat([images.detach().cpu() for images in named.values()])
    tiles(ax, stacked, len(stacked) // len(named), title)
    height = stacked.shape[-2] + 1 - 1 / len(named)
    ax.set_yticks([height * (i + 0.5) for i in range(len(named))], list(named))
    ax.tick_params(axis="y", length=0)
    return ax


def on_grid(
    ax: Axes,
    x: Float[Tensor, "1 H W"],
    grid: Float[Tensor, "H W 2"],
    every: int = 3,
    title: str = "",
) -> Axes:
    """An image, overlaid with the sampling grid of a warp (every `every`-th grid line)."""
    image(ax, x, title)
    size = torch.tensor([grid.shape[1], grid.shape[0]])
    pixels = ((grid.detach().cpu() + 1) * size - 1) / 2
    lines = [*pixels[::every], *pixels.transpose(0, 1)[::every]]
    for line in lines:
        ax.plot(*_array(line.T), color=ACCENT, linewidth=0.7, marker="", alpha=0.8)
    (left, top), (right, bottom) = (edge.tolist() for edge in pixels.flatten(0, 1).aminmax(dim=0))
    height, width = grid.shape[:2]
    ax.set_xlim(min(-0.5, left - 0.5), max(width - 0.5, right + 0.5))
    ax.set_ylim(max(height - 0.5, bottom + 0.5), min(-0.5, top - 0.5))
    return ax


def field(
    ax: Axes,
    displacement: Float[Tensor, "H W 2"],
    every: int = 3,
    title: str = "",
    colour: str = ACCENT,
) -> Axes:
    """The displacement field of a grid, as an arrow at every `every`-th pixel."""
    height, width = displacement.shape[:2]
    start = every // 2
    arrows = displacement.detach().cpu()[start::every, start::every]
    dx, dy = _array((arrows * torch.tensor([width / 2, height / 2])).movedim(-1, 0))
    x, y = range(start, width, every), range(start, height, every)
    # Lengths in pixels, widths in inches, so that small panels stay legible.
    style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1}
    ax.quiver(x, y, dx, dy, **style, color=colour, units="inches", width=0.016)
    ax.set(aspect="equal", xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return _bare(ax, title)


def control_points(
    ax: Axes,
    points: Float[Tensor, "n 2"],
    displacements: Float[Tensor, "n 2"],
    size: tuple[int, int] = (28, 28),
) -> Axes:
    """On an image, a line from each control point (open) to where the grid looks (filled).

    Points and displacements use the coordinates of `warps`: -1 and 1 are the image's outer edges.
    """
    edge = torch.tensor([size[1], size[0]])
    here, there = (
        _array(((p.detach().cpu() + 1) * edge - 1) / 2) for p in (points, points + displacements)
    )
    blue = COLOURS[0]
    for (x0, y0), (x1, y1) in zip(here.tolist(), there.tolist(), strict=True):
        ax.plot([x0, x1], [y0, y1], color=blue, linewidth=1, marker="")
    ax.scatter(here[:, 0], here[:, 1], 14, facecolors="white", edgecolors=blue, zorder=3)
    ax.scatter(there[:, 0], there[:, 1], 14, color=blue, zorder=3)
    return ax


def curves(ax: Axes, history: Sequence[Mapping[str, float]], names: Mapping[str, str]) -> Axes:
    """Columns of a training history against the epoch; `names` maps columns to labels."""
    epochs = [row["epoch"] for row in history]
    for column, label in names.items():
        ax.plot(epochs, [float(row[column]) for row in history], label=label, markevery=0.1)
    ax.set(xlabel="epoch", ylabel="nats")
    if len(names) > 1:
        ax.legend()
    return ax


def nll_against_k(
    ax: Axes, ks: Sequence[int], nll_at: Sequence[float] | Tensor, label: str = ""
) -> Axes:
    """The estimated NLL against the number of importance samples."""
    ax.semilogx([int(k) for k in ks], [float(nll) for nll in nll_at], label=label)
    ax.set(xlabel="importance samples K", ylabel="estimated NLL (nats)")
    if label:
        ax.legend()
    return ax


def against_draws(ax: Axes, curves: Mapping[str, Mapping[int, float]], title: str = "") -> Axes:
    """Signal-to-noise ratios, {label: {k: value}}, against the number of draws; log-log axes."""
    for label, curve in curves.items():
        ax.plot(list(curve), [float(value) for value in curve.values()], label=label)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    # The values often span less than a decade, so label steps within it.
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set(title=title, xlabel="draws k")
    return ax


hold(sys.modules[__name__])
