"""Still pictures that a page shows until the explorer starts, or for good without JavaScript."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

from tvae_core import data, plots
from tvae_core.experiments import results
from tvae_core.explorer import export

ALT = {
    "pose": "Three rows of digits: as they are; as the decoder drew them, under the grids through "
    "which the output looks; and the output, which lies as the digits do.",
    "plain": "Two rows of digits: as they are, and as the decoder repeats them.",
    "bounds": "A curve that falls from left to right and levels off: the estimated negative "
    "log-likelihood against the number of importance samples.",
}
SHOWN = torch.tensor([1, 4, 5, 7, 12])  # indices into export.some_digits()


def alt(view: str, name: str) -> str:
    """A description of the picture that `write_picture` draws."""
    return ALT[_kind(view, name)]


def _kind(view: str, name: str) -> str:
    if view == "bounds":
        return "bounds"
    return "plain" if name.startswith("plain") else "pose"


def write_picture(view: str, name: str, folder: Path) -> Path:
    """Draw a still picture of what a view of a shipped model shows, and return its path.

    Raises:
        ValueError: the model is unknown. The message lists the known ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_kind(view, name)}-{name}.png"
    with matplotlib.rc_context():
        plots.use_style()
        figure = _bounds(name) if _kind(view, name) == "bounds" else _digits(name)
        figure.savefig(path, dpi=110)
    return path


def _bounds(name: str) -> Figure:
    record = results.record_of(name)
    figure = Figure(figsize=(5, 2.6), layout="constrained")
    plots.nll_against_k(figure.subplots(), record.nll_ks, record.nll_at)
    return figure


@torch.no_grad()
def _digits(name: str) -> Figure:
    model, images, binary = export.load(name)
    model = model.cpu()
    if binary:
        images = data.binarize_fixed(images)
    images = images[SHOWN]
    latents = model.posterior(images.x).mean
    output = model.decoder(latents).mean
    rows = 3 if model.dim_u else 2
    figure = Figure(figsize=(6, 1.25 * rows), layout="constrained")
    axes = figure.subplots(rows, len(SHOWN))
    for column, (x, latent, out) in enumerate(zip(images.x, latents, output, strict=True)):
        plots.image(axes[0, column], x)
        plots.image(axes[-1, column], out)
        if model.dim_u:
            middle = axes[1, column]
            plots.on_grid(middle, model.canonical(latent), model.grid(latent), every=9)
            side = model.size[0]
            middle.set(xlim=(-7, side + 6), ylim=(side + 6, -7))
    for row, label in enumerate(("x", "c(z)", "output") if model.dim_u else ("x", "output")):
        axes[row, 0].set_ylabel(label)
    return figure
