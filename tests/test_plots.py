"""What a plot shows, read from the artists that it drew."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tvae_core import plots

# An image of 2 x 3 pixels in which every pixel has a value of its own: row by row, from the top.
IMAGE = torch.tensor([[[0.1, 0.2, 0.4], [0.6, 0.8, 0.7]]])
SHOWN = IMAGE[0].numpy()
LINE = 0.25  # the gray between images


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def sheet(ax: Axes) -> np.ndarray:
    """The pixels of the one image on the axes: row 0 on top, 0 in white, 1 in black."""
    (picture,) = ax.get_images()
    assert picture.origin == "upper"
    assert ax.yaxis_inverted()
    assert not ax.xaxis_inverted()
    paper, ink = (to_hex(picture.to_rgba(np.array([[value]]))[0, 0]) for value in (0.0, 1.0))
    assert (paper, ink) == ("#ffffff", "#000000")
    assert picture.get_clim() == (0, 1)
    return picture.get_array().data


def points(ax: Axes) -> list[list[list[float]]]:
    """The points of each line."""
    return [np.round(line.get_xydata(), 5).tolist() for line in ax.lines]


def test_an_image_stands_upright_in_black_on_white(ax):
    assert plots.image(ax, IMAGE, "a title") is ax
    assert np.array_equal(sheet(ax), SHOWN)
    assert ax.get_title() == "a title"
    assert not [*ax.get_xticks(), *ax.get_yticks()]


def test_tiles_run_along_rows_with_lines_between_them(ax):
    images = torch.stack([IMAGE, 1 - IMAGE, IMAGE / 2])
    assert plots.tiles(ax, images, columns=2, title="three") is ax
    found = sheet(ax)
    assert found.shape == (5, 7)
    assert np.array_equal(found[:2, :3], SHOWN)
    assert np.array_equal(found[:2, 4:], 1 - SHOWN)
    assert np.array_equal(found[3:, :3], SHOWN / 2)
    assert (found[2] == LINE).all()
    assert (found[:, 3] == LINE).all()
    assert (found[3:, 4:] == LINE).all()  # no fourth image
    assert ax.get_title() == "three"


def test_rows_of_different_lengths_are_refused(ax):
    with pytest.raises(ValueError, match=r"the same number of images, got .'a': 3, 'b': 5"):
        plots.rows(ax, {"a": torch.zeros(3, 1, 2, 2), "b": torch.zeros(5, 1, 2, 2)})


def test_rows_have_their_names_at_their_heights(ax):
    named = {"first": torch.stack([IMAGE, 1 - IMAGE]), "second": torch.stack([IMAGE / 2, IMAGE])}
    assert plots.rows(ax, named, "two rows") is ax
    found = sheet(ax)
    assert np.array_equal(found[:2, :3], SHOWN)
    assert np.array_equal(found[:2, 4:], 1 - SHOWN)
    assert np.array_equal(found[3:, :3], SHOWN / 2)
    assert np.array_equal(found[3:, 4:], SHOWN)
    heights = dict(zip((t.get_text() for t in ax.get_yticklabels()), ax.get_yticks(), strict=True))
    assert list(heights) == ["first", "second"]
    assert 0 <= heights["first"] <= 2  # rows 0 and 1 of the sheet
    assert 3 <= heights["second"] <= 5
    assert ax.get_title() == "two rows"


def test_the_identity_s_grid_lies_on_the_pixels_centres(ax):
    x, y = torch.meshgrid(torch.tensor([-2.0, 0, 2]) / 3, torch.tensor([-0.5, 0.5]), indexing="xy")
    grid = torch.stack([x, y], -1)
    assert plots.on_grid(ax, IMAGE, grid, every=2, title="grid") is ax
    assert np.array_equal(sheet(ax), SHOWN)
    row, left, right = points(ax)  # every second row, and every second column
    assert row == [[0, 0], [1, 0], [2, 0]]
    assert left == [[0, 0], [0, 1]]
    assert right == [[2, 0], [2, 1]]
    assert ax.get_xlim() == pytest.approx((-0.5, 2.5))
    assert ax.get_ylim() == pytest.approx((1.5, -0.5))


def test_a_grid_beyond_the_frame_widens_the_view_on_its_side(ax):
    x, y = torch.meshgrid(torch.tensor([-2.0, 0, 2]) / 3, torch.tensor([-0.5, 0.5]), indexing="xy")
    # One pixel to the right and two down.
    moved = torch.stack([x + 2 / 3, y + 2], -1)
    plots.on_grid(ax, IMAGE, moved, every=1)
    assert points(ax)[0] == [[1, 2], [2, 2], [3, 2]]
    assert ax.get_xlim() == pytest.approx((-0.5, 3.5))
    assert ax.get_ylim() == pytest.approx((3.5, -0.5))


def test_a_field_is_drawn_as_arrows_in_pixels_from_where_they_apply(ax):
    displacement = torch.zeros(4, 6, 2)
    displacement[1, 4] = torch.tensor([1 / 3, -0.5])  # one pixel to the right and one up
    assert plots.field(ax, displacement, every=3, title="field", colour="#333333") is ax
    (arrows,) = ax.collections
    assert np.column_stack([arrows.X, arrows.Y]).tolist() == [[1, 1], [4, 1]]
    assert np.column_stack([arrows.U, arrows.V]).round(5).tolist() == [[0, 0], [1, -1]]
    assert (arrows.angles, arrows.scale_units, arrows.scale) == ("xy", "xy", 1)
    assert to_hex(arrows.get_facecolor()[0]) == "#333333"
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 5.5), (3.5, -0.5))
    assert ax.get_aspect() == 1


def test_control_points_are_open_and_lead_to_where_the_grid_looks(ax):
    here = torch.tensor([[-0.5, -0.75], [0.5, 0.25]])
    assert plots.control_points(ax, here, torch.tensor([[0.5, 0.0], [0.0, 0.5]]), (8, 4)) is ax
    # In an image of 8 x 4 pixels, x = -0.5 is the edge between the columns 0 and 1.
    start, end = [[0.5, 0.5], [2.5, 4.5]], [[1.5, 0.5], [2.5, 6.5]]
    assert points(ax) == [list(pair) for pair in zip(start, end, strict=True)]
    opened, filled = ax.collections
    assert opened.get_offsets().tolist() == start
    assert filled.get_offsets().tolist() == end
    assert to_hex(opened.get_facecolor()[0]) == "#ffffff"
    assert to_hex(filled.get_facecolor()[0]) == plots.COLOURS[0].lower()


def labelled(ax: Axes) -> dict[str, list[list[float]]]:
    return dict(zip((line.get_label() for line in ax.lines), points(ax), strict=True))


def test_curves_show_each_column_against_its_epoch(ax):
    history = [{"epoch": 3, "kl_z": 10.0, "kl_u": 5.0}, {"epoch": 4, "kl_z": 12.0, "kl_u": 4.0}]
    assert plots.curves(ax, history, {"kl_z": "of z", "kl_u": "of u"}) is ax
    assert labelled(ax) == {"of z": [[3, 10], [4, 12]], "of u": [[3, 5], [4, 4]]}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "nats")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["of z", "of u"]
    alone = plots.curves(Figure().subplots(), history, {"kl_z": "of z"})
    assert alone.get_legend() is None


def test_the_nll_is_shown_against_the_logarithm_of_the_draws(ax):
    assert plots.nll_against_k(ax, [1, 10, 100], [99.0, 95.0, 94.0], "a run") is ax
    assert labelled(ax) == {"a run": [[1, 99], [10, 95], [100, 94]]}
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("importance samples K", "estimated NLL (nats)")
    assert ax.get_legend().get_texts()[0].get_text() == "a run"
    assert plots.nll_against_k(Figure().subplots(), [1, 2], [3.0, 2.0]).get_legend() is None


def test_ratios_are_shown_against_the_draws_on_two_logarithmic_axes(ax):
    curves = {"IWAE": {1: 0.5, 8: 0.25}, "DReG": {1: 0.5, 8: 2.0}}
    assert plots.against_draws(ax, curves, "ratios") is ax
    assert labelled(ax) == {"IWAE": [[1, 0.5], [8, 0.25]], "DReG": [[1, 0.5], [8, 2]]}
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.xaxis.get_transform().base == 2
    assert (ax.get_title(), ax.get_xlabel()) == ("ratios", "draws k")
    assert ax.xaxis.get_major_formatter()(8) == "8"
    assert ax.yaxis.get_major_formatter()(0.5) == "0.5"


def test_the_style_is_black_on_white_with_six_colours_and_markers():
    with mpl.rc_context():
        plots.use_style()
        styles = list(mpl.rcParams["axes.prop_cycle"])
        assert [style["color"] for style in styles] == list(plots.COLOURS)
        assert len({style["marker"] for style in styles}) == len(set(plots.COLOURS)) == 6
        assert mpl.rcParams["image.cmap"] == "gray_r"
        assert mpl.rcParams["figure.facecolor"] == mpl.rcParams["savefig.facecolor"] == "white"
