"""The book as one PDF file."""

import re
import unicodedata

import make_pdf
import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader
from test_reading import CHAPTER


@pytest.fixture(scope="module")
def pdf(browser, book):
    return PdfReader(make_pdf.print_pdf(browser))


@pytest.fixture(scope="module")
def text(pdf) -> list[str]:
    """What each page says, with ligatures as letters."""
    return [unicodedata.normalize("NFKC", page.extract_text()) for page in pdf.pages]


def test_every_chapter_begins_on_the_page_that_the_contents_name(text):
    listed = dict(re.findall(r"(?m)^(\d+)\. .*?(\d+)$", text[1]))
    assert len(listed) == len(CHAPTER)
    titles = dict(re.findall(r"(?m)^(\d+)\. (.*?) ?\d+$", text[1]))
    for number, title in titles.items():
        page = text[int(listed[number]) - 1]
        assert title in " ".join(page.split()), title
        assert re.search(rf"(?m)^{listed[number]}$", page)  # the number below it


def test_formulas_are_rendered(text):
    said = "\n".join(text)
    assert not re.search(r"MathJax|Math (input|Processing) error|\\\(|\\\[|\$\$", said)
    assert len(said) > 200_000


def test_answers_are_open_and_plotting_code_and_labels_are_left_out(text, book):
    said = "\n".join(text)
    assert len(re.findall("(?m)^Answer", said)) > 20
    assert not re.search(
        r"(Show|Hide) (code|the (plotting|code|imports|output|training))|Fold it again", said
    )
    page = BeautifulSoup(
        (book / f"{CHAPTER['05']}.html").read_text(encoding="utf-8"), "html.parser"
    )
    folded = page.select(".tag_hide-input details pre")
    lines = [line for code in folded for line in code.text.splitlines() if "ax.set(" in line]
    lines = [line.strip() for line in lines if page.text.count(line.strip()) == 1]
    assert lines
    assert not any(line in said for line in lines)


def test_the_outline_has_every_chapter(pdf):
    titles = [entry.title for entry in pdf.outline if not isinstance(entry, list)]
    numbers = [int(found[1]) for title in titles if (found := re.match(r"(\d+)\. \D", title))]
    assert numbers == [*range(1, len(CHAPTER) + 1)]
