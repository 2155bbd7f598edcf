"""Rules for the files of all chapters. nbval runs the cells; these tests only read them."""

import ast
import base64
import builtins
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


def pictures(cell, kind="image/"):
    return [
        data
        for output in cell.outputs
        for mime, data in output.get("data", {}).items()
        if mime.startswith(kind)
    ]


@pytest.fixture(scope="module")
def notebooks():
    """Each chapter's name and content."""
    return {path.stem: nbformat.read(path, as_version=4) for path in NOTEBOOKS}


def test_the_book_has_all_chapters_in_order():
    listed = re.findall(r"file: notebooks/(\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert listed == [path.stem for path in NOTEBOOKS]


def test_every_test_named_in_a_chapter_exists(notebooks):
    for chapter, notebook in notebooks.items():
        text = "".join(cell.source for cell in notebook.cells)
        for file, name in re.findall(r"`(tests/\w+\.py)::(\w+)`", text):
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), (
                f"{chapter}: {file} has no {name}"
            )


def test_a_chapter_is_a_valid_and_small_file(subtests, notebooks):
    for path in NOTEBOOKS:
        with subtests.test(path.stem):
            nbformat.validate(notebooks[path.stem])
            assert path.stat().st_size < MAX_BYTES


def test_a_chapter_was_executed_from_top_to_bottom(notebooks):
    for chapter, notebook in notebooks.items():
        counts = [cell.execution_count for cell in code_cells(notebook)]
        assert counts == list(range(1, len(counts) + 1)), chapter


def test_a_chapter_has_no_error_no_warning_and_no_widget_state(subtests, notebooks):
    for chapter, notebook in notebooks.items():
        with subtests.test(chapter):
            assert "widgets" not in notebook.metadata
            for cell in code_cells(notebook):
                assert "raises-exception" not in tags(cell)
                for output in cell.outputs:
                    assert output.output_type != "error"
                    assert output.get("name") != "stderr", output.get("text")


def test_a_chapter_contains_no_path_of_a_particular_machine():
    for path in NOTEBOOKS:
        found = re.findall(
            r"/(?:home|root|work|tmp|Users|usr|private|opt)/[\w.-]+|[A-Z]:\\\\",
            path.read_text(encoding="utf-8"),
        )
        assert not found, path.stem


def test_a_chapter_begins_with_the_setup_cell_and_the_title(subtests, notebooks):
    for chapter, notebook in notebooks.items():
        with subtests.test(chapter):
            setup, title = notebook.cells[:2]
            assert "TVAE_CORE_URL" in setup.source
            assert not setup.outputs
            assert title.cell_type == "markdown"
            headings = re.findall(r"(?m)^#+ ", "\n".join(c.source for c in notebook.cells[1:2]))
            assert headings[0] == "# "


def bound_and_read(source):
    """The names that a cell binds, and those that it reads."""
    nodes = [*ast.walk(ast.parse(source))]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return bound, {node.id for node in names if isinstance(node.ctx, ast.Load)}


def test_a_visible_cell_uses_no_name_from_a_removed_one(subtests, notebooks):
    """Otherwise, code copied from the page stops with a NameError."""
    for chapter, notebook in notebooks.items():
        with subtests.test(chapter):
            known = {*dir(builtins)}
            for cell in code_cells(notebook):
                if "remove-cell" not in tags(cell):
                    bound, read = bound_and_read(cell.source)
                    known |= bound
                    assert not read - known, cell.id


def test_headings_never_skip_a_level(notebooks):
    for chapter, notebook in notebooks.items():
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        levels = [len(marks) for marks in re.findall(r"(?m)^(#+) ", text)]
        assert levels.count(1) == 1, chapter
        assert all(after <= before + 1 for before, after in pairwise(levels)), chapter


def test_every_figure_has_a_caption_a_name_and_alt_text(subtests, notebooks):
    for chapter, notebook in notebooks.items():
        with subtests.test(chapter):
            names = []
            for cell in code_cells(notebook):
                if pictures(cell):
                    assert len(pictures(cell)) == 1, "one figure per cell"
                    figure = cell.metadata["mystnb"]["figure"]
                    assert len(figure["caption"]) > 20
                    assert len(cell.metadata["mystnb"]["image"]["alt"]) > 40
                    names.append(figure["name"])
            assert len(names) == len(set(names))


def test_figures_have_a_white_background(notebooks):
    """On the dark page of an editor a transparent figure would show black lines on black."""
    for chapter, notebook in notebooks.items():
        for cell in code_cells(notebook):
            for png in pictures(cell, "image/png"):
                image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
                assert image.getpixel((0, 0)) == (255, 255, 255, 255), chapter
            for svg in pictures(cell, "image/svg"):
                first = re.search(r'<path d="M 0 [^"]*" style="([^"]*)"', svg)
                assert first[1] == "fill: #ffffff", chapter


def is_checked(cell):
    """Whether nbval would notice a wrong result: it compares text but not pictures."""
    if re.search(r"\bassert\b|assert_close", cell.source):
        return True
    text = [o for o in cell.outputs if not any("image/" in mime for mime in o.get("data", {}))]
    return bool(text) and "nbval-ignore-output" not in tags(cell)


def test_two_thirds_of_the_cells_are_compared_or_assert_something(notebooks):
    for chapter, notebook in notebooks.items():
        # Imports and definitions have no output; the cells that use them count.
        cells = [cell for cell in code_cells(notebook) if cell.outputs or is_checked(cell)]
        assert sum(map(is_checked, cells)) >= 2 / 3 * len(cells), chapter
        assert not [cell for cell in cells if "nbval-skip" in tags(cell)], chapter


def test_every_chapter_has_the_standard_parts(subtests, notebooks):
    parts = ("**You will**", "**You need**", "**Time:**", "**Predict", "Break it on purpose")
    for chapter, notebook in notebooks.items():
        with subtests.test(chapter):
            markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
            text = "\n".join(markdown)
            for part in (*parts, "What we learned", "**Not understood yet.**", "## Exercises"):
                assert part in text, f"no {part!r}"
            solutions = [cell for cell in code_cells(notebook) if "hide-cell" in tags(cell)]
            assert len(solutions) >= 3


def test_no_two_figures_of_the_book_have_the_same_name(notebooks):
    names = [
        cell.metadata["mystnb"]["figure"]["name"]
        for notebook in notebooks.values()
        for cell in code_cells(notebook)
        if "figure" in cell.metadata.get("mystnb", {})
    ]
    assert len(names) == len(set(names))
