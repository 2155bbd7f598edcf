"""What a figure becomes when a notebook of the book is executed."""

from xml.etree import ElementTree as ET

import drawings
import matplotlib as mpl
import nbformat
import pytest
import run_notebooks
import torch
from matplotlib.figure import Figure

from tvae_core import plots


def test_a_drawing_is_the_same_each_time_and_on_one_line():
    figure = Figure()
    figure.subplots().plot([1, 3, 2], label="a")
    assert drawings.drawing(figure) == drawings.drawing(figure)
    assert "\n" not in drawings.drawing(figure)


def test_a_drawing_names_what_lies_on_an_image_and_only_that():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    plots.image(left, torch.rand(2, 2), "a title")
    left.plot([0, 1], [0, 1])
    left.text(0, 0, "words")
    left.scatter([0], [1])
    left.add_patch(mpl.patches.Rectangle((0, 0), 1, 1))
    right.plot([0, 1], [0, 1])
    ids = [e.get("id", "") for e in ET.fromstring(drawings.drawing(figure)).iter()]
    assert len([each for each in ids if each.startswith("on-image-0-")]) == 4
    assert not [each for each in ids if each.startswith("on-image-1-")]


@pytest.mark.parametrize(
    ("draw", "pictures"),
    [
        (lambda ax, n: ax.scatter(range(n), range(n)), 1),
        (lambda ax, n: ax.plot(range(n), ".", linestyle="None"), 1),
        (lambda ax, n: ax.plot(range(n)), 0),  # a curve stays a curve
    ],
    ids=["scatter", "dots", "curve"],
)
def test_only_a_crowd_of_dots_becomes_a_picture(draw, pictures):
    for n, expected in ((drawings.CROWD, 0), (drawings.CROWD + 1, pictures)):
        figure = Figure()
        draw(figure.subplots(), n)
        drawn = ET.fromstring(drawings.drawing(figure))
        assert len([e for e in drawn.iter() if e.tag.endswith("}image")]) == expected


def test_an_executed_notebook_holds_drawings_and_no_pictures(tmp_path):
    cells = [
        "from matplotlib import pyplot as plt\nfrom tvae_core import plots\nplots.use_style()",
        "plt.plot([1, 2]);",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    path = tmp_path / "a.ipynb"
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    run_notebooks.execute(path)
    first, second = nbformat.read(path, as_version=4).cells
    assert (first.execution_count, second.execution_count) == (1, 2)
    (output,) = second.outputs
    assert {*output.data} == {"image/svg+xml", "text/plain"}
