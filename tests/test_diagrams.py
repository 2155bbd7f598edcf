"""The chapters' diagrams are up to date, fit their boxes, and use the book's symbols."""

import json
import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import diagram_pictures
import diagrams
import nbformat
import pytest

ROOT = Path(__file__).parents[1]

TABLE = diagrams.read_table()
BOTH = [(chapter, form) for chapter in TABLE for form in ("wide", "tall")]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_no_drawing_is_left_over():
    assert {*diagrams.FOLDER.iterdir()} == set(diagrams.drawings())


def test_the_pictures_are_those_of_the_models():
    """Within one step of gray and half a pixel: processors round in their own ways."""
    kept, made = (
        json.loads(diagrams.PICTURES.read_text(encoding="utf-8")),
        diagram_pictures.pictures(),
    )
    assert set(kept) == set(made)
    for name, rows in made.items():
        if isinstance(rows[0], str):
            for before, now in zip(kept[name], rows, strict=True):
                assert all(abs(int(a) - int(b)) <= 1 for a, b in zip(before, now, strict=True))
        else:
            flat = [
                [v for line in it for point in line for v in point] for it in (kept[name], rows)
            ]
            assert flat[0] == pytest.approx(flat[1], abs=0.5), name


def overlap(one: diagrams.Box, other: diagrams.Box, room: float) -> bool:
    return (
        abs(one.x - other.x) * 2 < one.width + other.width + 2 * room
        and abs(one.y - other.y) * 2 < one.height + other.height + 2 * room
    )


@pytest.mark.parametrize(("chapter", "form"), BOTH)
def test_nodes_lie_inside_and_apart(chapter, form):
    drawing = diagrams.layout(TABLE[chapter], form)
    assert drawing.width <= {"wide": 720, "tall": 320}[form]
    for name, box in drawing.boxes.items():
        assert box.width / 2 <= box.x <= drawing.width - box.width / 2, name
        assert box.height / 2 <= box.y <= drawing.height - box.height / 2, name
    for (a, one), (b, other) in combinations(drawing.boxes.items(), 2):
        assert not overlap(one, other, room=3), (a, b)


@pytest.mark.parametrize(("chapter", "form"), BOTH)
def test_arrows_cross_no_other_node(chapter, form):
    drawing = diagrams.layout(TABLE[chapter], form)
    for points, edge in drawing.curves:
        for i in range(101):
            t = i / 100
            share = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
            x, y = (sum(s * p[axis] for s, p in zip(share, points, strict=True)) for axis in (0, 1))
            for name, box in drawing.boxes.items():
                if name not in (edge["from"], edge["to"]):
                    assert not overlap(box, diagrams.Box(x, y, 0, 0), room=1), (edge, name)


@pytest.mark.parametrize(("chapter", "form"), BOTH)
def test_text_fits_its_box(chapter, form):
    boxes = diagrams.layout(TABLE[chapter], form).boxes
    for name, node in TABLE[chapter]["nodes"].items():
        for line in node["text"]:
            assert diagrams.text_width(line) + 2 * diagrams.PAD <= boxes[name].width + 1e-6


def general(text):
    """Formulas as for the plain VAE, which has no u, and for K draws."""
    return re.sub(r"\\mathcal L_\w", r"\\mathcal L_K", text.replace("z, u", "z"))


@pytest.mark.parametrize("chapter", TABLE)
def test_every_symbol_is_in_the_notation(chapter):
    page = general((ROOT / "book" / "notation.md").read_text(encoding="utf-8"))
    for name, node in TABLE[chapter]["nodes"].items():
        for formula in re.findall(r"\$([^$]+)\$", " ".join(node["text"])):
            alone = re.fullmatch(r"\\?[A-Za-z]+", formula)  # one symbol has a line of its own
            assert (f"${formula}$" if alone else general(formula)) in page, (name, formula)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_shows_its_diagram_with_alt_text(path):
    cells = nbformat.read(path, as_version=4).cells
    chapter = path.stem[:2]
    alt, file = re.match(r"!\[(.+)\]\(\S+/(\d\d)\.svg\)\n\n\*.+\*$", cells[2].source).groups()
    assert cells[2].id == "diagram"
    assert file == chapter
    assert len(alt) > 100
    assert "## " not in cells[1].source  # so it comes before the first section


@pytest.mark.parametrize("chapter", TABLE)
def test_a_diagram_is_small_and_valid_and_has_something_new(chapter):
    entry = TABLE[chapter]
    assert any(node.get("new") or node.get("badges") for node in entry["nodes"].values())
    total = 0
    for path in (diagrams.FOLDER / f"{chapter}.svg", diagrams.FOLDER / f"{chapter}-tall.svg"):
        assert ET.parse(path).getroot().get("aria-label") == entry["alt"]
        total += path.stat().st_size
    assert total < 60_000
    assert {edge[end] for edge in diagrams.edges_of(entry) for end in ("from", "to")} == set(
        entry["nodes"]
    )


def test_the_museum_has_a_place_for_each_of_its_exhibits():
    text = NOTEBOOKS[9].read_text(encoding="utf-8")
    exhibits = {int(n) for n in re.findall(r'"## (\d+)\. ', text)}
    placed = [b for node in TABLE["10"]["nodes"].values() for b in node.get("badges", [])]
    assert len(exhibits) > 1
    assert sorted(placed) == sorted(exhibits)
