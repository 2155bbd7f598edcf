"""What holds for every chapter as a file: nbval runs the cells, these tests read them."""

import base64
import io
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 1_500_000


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def pictures(cell):
    return [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def test_the_book_has_all_chapters_in_their_order():
    listed = re.findall(r"file: notebooks/(\S+)", (ROOT / "_toc.yml").read_text())
    assert listed == [path.stem for path in NOTEBOOKS]


def test_the_tests_that_a_chapter_names_exist(notebook):
    text = "".join(cell.source for cell in notebook.cells)
    for file, name in re.findall(r"`(tests/\w+\.py)::(\w+)`", text):
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file} has no {name}"


def test_is_valid_and_small(path, notebook):
    nbformat.validate(notebook)
    assert path.stat().st_size < MAX_BYTES


def test_was_executed_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_has_no_error_no_warning_and_no_widget_state(notebook):
    assert "widgets" not in notebook.metadata
    for cell in code_cells(notebook):
        assert "raises-exception" not in tags(cell)
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.get("text")


def test_names_no_path_of_a_machine(path):
    found = re.findall(
        r"/(?:home|root|work|tmp|Users|usr|private|opt)/[\w.-]+|[A-Z]:\\\\", path.read_text()
    )
    assert not found


def test_begins_with_the_set_up_cell_and_the_title(notebook):
    setup, title = notebook.cells[:2]
    assert "TVAE_CORE_URL" in setup.source
    assert not setup.outputs
    assert title.cell_type == "markdown"
    headings = re.findall(r"(?m)^#+ ", "\n".join(c.source for c in notebook.cells[1:2]))
    assert headings[0] == "# "


def test_headings_never_skip_a_level(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    levels = [len(marks) for marks in re.findall(r"(?m)^(#+) ", text)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_figure_has_a_caption_a_name_and_alt_text(notebook):
    names = []
    for cell in code_cells(notebook):
        if pictures(cell):
            assert len(pictures(cell)) == 1, "one figure a cell"
            figure = cell.metadata["mystnb"]["figure"]
            assert len(figure["caption"]) > 20
            assert len(cell.metadata["mystnb"]["image"]["alt"]) > 40
            names.append(figure["name"])
    assert len(names) == len(set(names))


def test_figures_are_drawn_on_white(notebook):
    """On a dark page a transparent figure would show black ink on black."""
    for cell in code_cells(notebook):
        for png in pictures(cell):
            image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
            assert image.getpixel((0, 0)) == (255, 255, 255, 255)


def is_proven(cell):
    """Whether nbval would notice a wrong result: it compares text, but no pictures."""
    if re.search(r"\bassert\b|assert_close", cell.source):
        return True
    text = [output for output in cell.outputs if "image/png" not in output.get("data", {})]
    return bool(text) and "nbval-ignore-output" not in tags(cell)


def test_two_thirds_of_the_cells_are_compared_or_assert(notebook):
    # Imports and definitions show nothing; the cells that use them count.
    cells = [cell for cell in code_cells(notebook) if cell.outputs or is_proven(cell)]
    assert sum(map(is_proven, cells)) >= 2 / 3 * len(cells)
    assert not [cell for cell in cells if "nbval-skip" in tags(cell)]


def test_is_a_chapter(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    parts = ("**You will**", "**You need**", "**Time:**", "**Predict", "Break it on purpose")
    for part in (*parts, "What we learned", "**Not understood yet.**", "## Exercises"):
        assert part in text, f"no {part!r}"
    solutions = [cell for cell in code_cells(notebook) if "hide-cell" in tags(cell)]
    assert len(solutions) >= 3


def test_names_no_figure_twice_in_the_book():
    names = [
        cell.metadata["mystnb"]["figure"]["name"]
        for path in NOTEBOOKS
        for cell in code_cells(nbformat.read(path, as_version=4))
        if "mystnb" in cell.metadata
    ]
    assert len(names) == len(set(names))
