"""Plots of the chapters take the colours of the page's theme, and can be read in both themes."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import drawings
import matplotlib as mpl
import pytest
import torch
from matplotlib.figure import Figure

from tvae_core import plots

EXTENSIONS = Path(__file__).parents[1] / "book" / "_ext"
sys.path.insert(0, str(EXTENSIONS))
import plot_ext  # noqa: E402

# What the theme calls --pst-color-background and --pst-color-text-base. The browser tests compare
# the rendered pages with the same limit.
THEMES = {"light": ("#ffffff", "#222832"), "dark": ("#121212", "#ced6dd")}


def light(colour: str) -> float:
    """The relative luminance of a colour such as #0072b2 (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    brighter, darker = sorted((light(one), light(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def on_page(style: str, theme: str) -> str:
    """The colour that a share of the text's colour has on the page."""
    paper, ink = THEMES[theme]
    (percent,) = re.findall(r"currentColor (\d+)%, transparent", style)
    part = int(percent) / 100
    pairs = [(int(ink[i : i + 2], 16), int(paper[i : i + 2], 16)) for i in (1, 3, 5)]
    mixed = [round(part * dark + (1 - part) * bright) for dark, bright in pairs]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


@pytest.fixture(scope="module")
def page() -> ET.Element:
    """A plot, and an image with something on it, as the page has them."""
    with mpl.rc_context():
        plots.use_style()
        figure = Figure(figsize=(7, 3))
        left, right = figure.subplots(1, 2)
        left.plot([1, 3, 2], label="a curve")
        left.axhline(2, color="#555555", linestyle="--")
        left.set(title="a title", xlabel="epoch", ylabel="nats")
        left.legend()
        plots.image(right, torch.rand(4, 4), "an image")
        right.text(0, 0, "words on it", color="#202020")
        right.plot([0, 3], [0, 3], color="#ffffff")
        text = plot_ext.inline(drawings.drawing(figure), "plot-7-", 'a "plot"')
    assert "\n" not in text
    return ET.fromstring(text)


def test_a_drawing_becomes_an_element_of_the_page(page):
    assert page.tag == f"{{{plot_ext.SVG}}}svg"
    assert page.get("role") == "img"
    assert page.get("aria-label") == 'a "plot"'
    assert float(page.get("width")) == pytest.approx(770, abs=60)
    ids = [e.get("id") for e in page.iter() if e.get("id")]
    assert len(ids) > 20
    assert all(each.startswith("plot-7-") for each in ids)
    links = [e.get("href") for e in page.iter(f"{{{plot_ext.SVG}}}use")]
    assert {link[1:] for link in links} <= {*ids}
    clips = {e.get("clip-path") for e in page.iter()} - {None}
    assert {clip[5:-1] for clip in clips} <= {*ids}
    assert not [*page.iter(f"{{{plot_ext.SVG}}}style")]  # it would be the whole page's


def within(page: ET.Element, name: str) -> list[ET.Element]:
    (group,) = (e for e in page.iter() if e.get("id", "").endswith(name))
    return [*group.iter()]


def test_what_lies_on_an_image_keeps_its_colours_and_the_rest_takes_those_of_the_page(page):
    kept = [e for n in (0, 1) for e in within(page, f"on-image-1-{n}")]
    styles = " ".join(e.get("style", "") for e in kept)
    assert "#ffffff" in styles
    assert "#202020" in styles
    assert "currentColor" not in styles
    others = [e for e in page.iter() if e not in kept]
    styles = " ".join(e.get("style", "") for e in others)
    assert not plot_ext.GRAY.search(styles)
    assert "currentColor 67%" in styles  # the dashed line
    assert "currentColor 0%" in styles  # the background
    assert plots.COLOURS[0].lower() in styles
    assert sum(e.tag.endswith("}image") for e in page.iter()) == 1


@pytest.mark.parametrize("theme", THEMES)
def test_words_and_lines_of_a_plot_can_be_read_in_both_themes(page, theme):
    paper, ink = THEMES[theme]
    words = [e.get("style", "") for e in within(page, "-text_1")]
    assert not [style for style in words if "fill" in style]  # they have the colour of the text
    assert contrast(ink, paper) > 4.5
    assert contrast(on_page(plot_ext.GRAY.sub(plot_ext.share, "#555555"), theme), paper) > 4.5
    assert contrast(on_page(plot_ext.GRAY.sub(plot_ext.share, "#dddddd"), theme), paper) < 1.7
    for colour in plots.COLOURS[:4]:  # what four curves in a plot have
        assert contrast(colour, paper) > 3


def test_the_theme_has_the_colours_that_the_contrasts_are_computed_from():
    theme = pytest.importorskip("sphinx_book_theme")
    base = pytest.importorskip("pydata_sphinx_theme")
    css = ""
    for package, name in ((base, "pydata-sphinx-theme"), (theme, "sphinx-book-theme")):
        folder = Path(package.__file__).parent / "theme"
        (file,) = folder.rglob(f"styles/{name}.css")
        css += file.read_text(encoding="utf-8")
    for paper, ink in THEMES.values():
        for name, colour in (("background", paper), ("text-base", ink)):
            found = {
                c if len(c) == 7 else "#" + "".join(2 * d for d in c[1:])
                for c in re.findall(rf"--pst-color-{name}:\s*(#[0-9a-f]+)", css)
            }
            assert colour in found
