"""Every plot takes the tensors of a chapter and raises no warning."""

import inspect
import warnings

import matplotlib
import pytest
import torch
from matplotlib import pyplot as plt

from tvae_core import plots, warps
from tvae_core.runtime import seeded

matplotlib.use("agg")

N, SIZE = 5, (6, 8)
with seeded(0):
    X = torch.rand(N, 1, *SIZE).requires_grad_()  # as a decoder returns them
    GRID = warps.WARPS["affine"](SIZE).grid(torch.randn(1, 6) / 10)[0]
    DISPLACEMENT = torch.randn(*SIZE, 2) / 10
    POINTS = torch.rand(4, 2) * 2 - 1
HISTORY = [{"epoch": epoch, "bound": torch.tensor(-1.0 / epoch), "recon": 3.0} for epoch in (1, 2)]

CALLS = {
    "image": lambda ax: plots.image(ax, X[0], "title"),
    "tiles": lambda ax: plots.tiles(ax, X, 3, "title"),
    "rows": lambda ax: plots.rows(ax, {"some": X, "others": 1 - X}, "title"),
    "on_grid": lambda ax: plots.on_grid(ax, X[0], GRID.requires_grad_(), 2, "title"),
    "field": lambda ax: plots.field(ax, DISPLACEMENT.requires_grad_(), 2, "title"),
    "control_points": lambda ax: plots.control_points(
        ax, POINTS, POINTS.requires_grad_() / 9, SIZE
    ),
    "curves": lambda ax: plots.curves(ax, HISTORY, {"bound": "bound", "recon": "recon"}),
    "nll_against_k": lambda ax: plots.nll_against_k(ax, (1, 10), torch.rand(2), "label"),
    "against_draws": lambda ax: plots.against_draws(ax, {"elbo": {1: torch.tensor(2.0), 8: 1.0}}),
}


def test_every_plot_is_called_here():
    functions = inspect.getmembers(plots, inspect.isfunction)
    ours = {n for n, f in functions if f.__module__ == plots.__name__ and not n.startswith("_")}
    assert ours - {"use_style"} == {*CALLS}


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@pytest.mark.parametrize("draw", CALLS.values(), ids=CALLS)
def test_a_plot_raises_no_warning_and_returns_its_axes(ax, draw):
    """Handed a tensor, numpy warns; whoever makes warnings errors would get no figure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw(ax) is ax
        ax.figure.canvas.draw()
