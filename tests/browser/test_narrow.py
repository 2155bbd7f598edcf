"""The book on a narrow screen and on paper: tables, code and answers."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page
from pypdf import PdfReader
from test_reading import CHAPTER
from visits import PHONE

# On paper.


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_printed_page_is_dark_on_white_and_code_is_whole(open_page, http_root, theme):
    page = open_page(http_root, CHAPTER["05"], color_scheme=theme)
    page.emulate_media(media="print")
    bright = """all => all.filter(e => e.checkVisibility()).map(e => {
        const [r, g, b] = getComputedStyle(e).color.match(/[\\d.]+/g).map(Number);
        return 0.3 * r + 0.6 * g + 0.1 * b;
    }).filter(light => light > 130).length"""
    assert page.locator(".bd-article :is(p, li, h2, pre, pre span, td)").evaluate_all(bright) == 0
    dark = """all => all.map(e => getComputedStyle(e).backgroundColor).filter(colour => {
        const [r, g, b, opacity = 1] = colour.match(/[\\d.]+/g).map(Number);
        return opacity > 0.2 && Math.min(r, g, b) < 200;
    })"""
    under = "body, main, .bd-article, .bd-article :is(pre, .highlight, .cell_input, code, tr, td)"
    assert page.locator(under).evaluate_all(dark) == []
    cut = "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert page.locator(".bd-article pre").evaluate_all(cut) == 0


def printed(page: Page) -> list[str]:
    """What the paper says, page by page, with its margins as a reader's browser sets them."""
    margin = {side: "10mm" for side in ("top", "bottom", "left", "right")}
    pdf = PdfReader(io.BytesIO(page.pdf(format="A4", margin=margin)))
    return [each.extract_text() for each in pdf.pages]


def test_a_printed_chapter_has_its_number_and_open_answers_and_no_guesses(open_page, http_root):
    page = open_page(http_root, CHAPTER["05"])
    answer = page.locator("details:not(.hide) p").first
    assert not answer.is_visible()
    words = answer.text_content().split()[:3]
    said = printed(page)
    assert said[0].lstrip().startswith("5. ")
    text = " ".join(" ".join(said).split())
    assert " ".join(words) in text
    assert "Commit" not in text
    title = page.locator("h1").inner_text().removesuffix("#").split(". ")[1]
    assert " ".join(said[0].split()).count(title) == 1


def test_a_printed_table_is_no_wider_than_the_paper(open_page, http_root):
    page = open_page(http_root, "book/results")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 within margins of 10 mm
    page.emulate_media(media="print")
    over = """all => all.filter(e => {
        const text = e.closest("article").getBoundingClientRect();
        return e.getBoundingClientRect().right > text.right + 1;
    }).map(e => e.id)"""
    tables = page.locator(".bd-article table")
    assert tables.count() > 10
    assert tables.evaluate_all(over) == []


# Tables on a phone.


def shade_at_the_right(page: Page, table: Locator, scrolled: bool) -> float:
    """How far the last pixels inside a table's frame differ from those 40 pixels to the left."""
    frame = table.locator("xpath=..")
    frame.evaluate("(e, scrolled) => (e.scrollLeft = scrolled ? e.scrollWidth : 0)", scrolled)
    box = table.locator("tbody tr").first.bounding_box()
    around = frame.bounding_box()
    clip = {"x": around["x"], "y": box["y"] + 3, "width": around["width"] - 2, "height": 5}
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip, full_page=True))).convert("L")
    strip = np.asarray(picture, dtype=float).mean(0)
    scale = picture.width / clip["width"]
    return abs(strip[-int(2 * scale) :].mean() - strip[-int(44 * scale) : -int(40 * scale)].mean())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_table_that_goes_on_beyond_the_edge_of_a_phone_shows_it(open_page, http_root, theme):
    page = open_page(http_root, "book/results", phone=True, color_scheme=theme)
    wide = page.locator("#tab-where")
    assert shade_at_the_right(page, wide, scrolled=False) > 20
    assert shade_at_the_right(page, wide, scrolled=True) < 5
    page.goto(f"{http_root}book/map.html")
    fits = page.locator("table")
    assert fits.locator("xpath=..").evaluate("e => e.scrollWidth === e.clientWidth")
    assert shade_at_the_right(page, fits, scrolled=False) < 5


@pytest.mark.parametrize("phone", [False, True])
def test_a_tables_caption_is_no_wider_than_its_frame(open_page, http_root, phone):
    page = open_page(http_root, "book/results", phone=phone)
    assert page.locator("caption").count() > 10
    over = """all => all.filter(e => {
        const frame = e.closest("div").getBoundingClientRect();
        return e.getBoundingClientRect().right > frame.right + 1;
    }).map(e => e.textContent)"""
    assert page.locator("caption").evaluate_all(over) == []


def test_the_names_of_rows_stay_in_sight_while_numbers_scroll(open_page, http_root):
    for name, table, title in (
        ("book/results", "#tab-where", "model"),
        ("book/own_images", "#tab-own-images", "poses by"),
        ("book/ablations", "#tab-ablation", "the modern recipe, but"),
    ):
        page = open_page(http_root, name, phone=True)
        frame = page.locator(f"div:has(> {table})")
        assert frame.evaluate("e => (e.scrollLeft = e.scrollWidth, e.scrollLeft)") > 20
        left = frame.bounding_box()["x"]
        named = page.locator(f"{table} .row-name")
        assert named.first.inner_text() == title
        assert {*named.evaluate_all("all => all.map(e => e.getBoundingClientRect().x)")} == {left}


def test_the_first_numbers_of_a_table_are_in_sight_on_a_phone(open_page, http_root):
    page = open_page(http_root, "book/own_images", phone=True)
    first = page.locator("#tab-own-images tbody td").nth(2)
    assert re.fullmatch(r"[\d.]+ \([\d.]+\)", first.inner_text())
    box = first.bounding_box()
    assert box["x"] + box["width"] < PHONE["viewport"]["width"]


def test_on_a_phone_a_symbols_last_cell_says_what_it_is(open_page, http_root):
    for number, what in (("12", "unit: "), ("02", "shape: ")):
        page = open_page(http_root, CHAPTER[number], phone=True)
        cells = page.locator("table.symbols td:last-child")
        assert cells.count() > 3
        said = "all => all.map(e => [e.textContent, getComputedStyle(e, '::before').content])"
        for text, label in cells.evaluate_all(said):
            assert label == (f'"{what}"' if text else "none")
