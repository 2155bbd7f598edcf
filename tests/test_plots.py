"""Laws of plots: they raise no warning, and draw what they are given."""

import inspect
import warnings

import matplotlib
import numpy as np
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


def test_an_image_is_drawn_pixel_by_pixel(ax):
    drawn = plots.image(ax, X[0]).images[0]
    assert np.array_equal(drawn.get_array(), X[0, 0].detach())
    assert drawn.get_clim() == (0, 1)


def test_tiles_are_separated_by_light_lines(ax):
    sheet = plots.tiles(ax, X, 3).images[0].get_array()
    height, width = SIZE
    assert sheet.shape == (2 * height + 1, 3 * width + 2)
    for i in range(N):
        top, left = i // 3 * (height + 1), i % 3 * (width + 1)
        assert np.array_equal(sheet[top : top + height, left : left + width], X[i, 0].detach())
    assert (sheet[height] == 0.25).all()
    assert (sheet[:, width] == 0.25).all()
    assert (sheet[height + 1 :, 2 * width + 2 :] == 0.25).all()  # where a sixth would be


def test_each_row_has_its_name_at_its_middle(ax):
    plots.rows(ax, {"some": X, "others": 1 - X})
    sheet = ax.images[0].get_array()
    assert np.array_equal(sheet[: SIZE[0], : SIZE[1]], X[0, 0].detach())
    assert np.array_equal(sheet[-SIZE[0] :, -SIZE[1] :], 1 - X[-1, 0].detach())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["some", "others"]
    assert list(ax.get_yticks()) == pytest.approx([len(sheet) / 4, len(sheet) * 3 / 4])


def test_lines_and_points_lie_where_the_grid_looks(ax):
    with torch.no_grad():
        identity = warps.WARPS["affine"](SIZE).grid(torch.zeros(1, 6))[0]
    plots.on_grid(ax, X[0], identity, every=1)
    rows = [line.get_xydata() for line in ax.lines[: SIZE[0]]]
    for y, row in enumerate(rows):
        np.testing.assert_allclose(row, [(x, y) for x in range(SIZE[1])], atol=1e-5)


def test_an_arrow_is_as_long_in_pixels_as_the_displacement(ax):
    shift = torch.tensor([1 / SIZE[1], -2 / SIZE[0]]) * 2  # one pixel to the right, two up
    plots.field(ax, shift.expand(*SIZE, 2), every=2)
    (arrows,) = ax.collections
    np.testing.assert_allclose(arrows.U, 1, atol=1e-6)
    np.testing.assert_allclose(arrows.V, -2, atol=1e-6)
    assert {*arrows.X} == {1, 3, 5, 7}
    assert {*arrows.Y} == {1, 3, 5}
