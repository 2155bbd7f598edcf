"""Every page of the book works on a server and from disk, with the network off."""

import re
import subprocess
from collections import Counter
from itertools import pairwise
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from visits import BOOK, DESKTOP, ROOT, SETTLE, THEMES, Trouble, new_page, start_explorers


def test_no_errors(look, root, name):
    assert look(root, name).trouble.errors == []


def test_nothing_is_requested_from_outside(look, root, name):
    assert look(root, name).trouble.outside == []


def test_no_request_fails(look, root, name):
    assert look(root, name).trouble.failed == []


def test_math_is_rendered(look, root, name):
    math = look(root, name).facts["math"]
    assert math["missing"] == []
    assert math["wrong"] == []
    assert math["raw"] == []


def test_images_have_a_description(look, http_root, name):
    path = re.compile(r"\.(png|jpe?g|gif|svg|webp)$|^\S*/\S*$")
    for source, alt in look(http_root, name).facts["images"]:
        assert alt is not None, f"no alt: {source}"
        assert alt.strip(), f"empty alt: {source}"
        assert not path.search(alt), f"alt is a path: {alt}"


def test_headings_are_in_order(look, http_root, name):
    headings = look(http_root, name).facts["headings"]
    assert [text for level, text in headings if level == 1] == [headings[0][1]]
    for (above, _), (level, text) in pairwise(headings):
        assert level <= above + 1, f"h{level} below h{above}: {text}"


def test_links_inside_the_book_lead_somewhere(look, root, name):
    for address, text in look(root, name).facts["links"]:
        if not address.startswith(root):
            continue
        target = urlsplit(address.removeprefix(root))
        assert (BOOK / unquote(target.path)).is_file(), f"{text!r} leads to {address}"
        if target.fragment and target.path.endswith(".html"):
            ids = look(root, target.path.removesuffix(".html")).facts["ids"]
            assert unquote(target.fragment) in ids, f"{text!r} leads to {address}"


def test_a_chapters_colab_links_name_its_notebook(look, http_root, name):
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    notebook = f"{name}.ipynb"
    tracked = subprocess.run(
        ["git", "ls-files", "notebooks"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    colab = "https://colab.research.google.com/github/"
    expected = (
        f"{repository['url'].replace('https://github.com/', colab)}"
        f"/blob/{repository['branch']}/{notebook}"
    )
    links = [a for a, _ in look(http_root, name).facts["links"] if a.startswith(colab)]
    if name.startswith("notebooks/"):
        assert notebook in tracked
        assert links
    assert set(links) <= {expected}


@pytest.mark.parametrize("theme", THEMES)
def test_no_serious_accessibility_violations(look, http_root, name, theme):
    found = [
        f"{violation['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for violation in look(http_root, name).violations[theme]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert not found, "\n".join(found)


def test_no_id_is_given_twice(look, http_root, name):
    ids = look(http_root, name).facts["ids"]
    assert [each for each, n in Counter(ids).items() if n > 1] == []


def test_a_phones_page_does_not_scroll_sideways(look, http_root, name):
    facts = look(http_root, name, phone=True).facts
    assert facts["overflow"] == []
    assert facts["cut"] == [], "break these formulas into lines, or put a $ $ where one may break"


def test_the_front_door_leads_to_the_welcome(open_page, root):
    page = open_page(root, "search")
    page.goto(f"{root}index.html")
    page.wait_for_url(f"{root}book/welcome.html")


def test_search_finds_a_term(open_page, root):
    page = open_page(root, "book/welcome")
    page.keyboard.press("Control+k")
    page.keyboard.type("bilinear")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{root}search.html?q=bilinear*")
    page.locator("#search-results a", has_text="Spatial transformers").first.click()
    page.wait_for_url(f"{root}notebooks/02_spatial_transformers.html*")


BLOCKED = """for (const name of ["localStorage", "sessionStorage"]) {
    const get = () => { throw new DOMException("blocked", "SecurityError"); };
    Object.defineProperty(window, name, { configurable: true, get });
}"""


def test_search_and_theme_work_where_storage_is_blocked(browser, http_root):
    def found(context):
        page, trouble = new_page(context, http_root)
        page.goto(f"{http_root}search.html?q=bilinear")
        page.locator("#search-results li").first.wait_for()
        page.evaluate(SETTLE)
        before = page.evaluate("document.documentElement.dataset.theme")
        for _ in range(2):  # light, dark and automatic, which is one of the two
            page.locator("button.theme-switch-button").first.click()
        after = page.evaluate("document.documentElement.dataset.mode")
        assert trouble == Trouble()
        return page.locator("#search-results li").count(), before, after

    free, blocked = browser.new_context(**DESKTOP), browser.new_context(**DESKTOP)
    blocked.add_init_script(BLOCKED)
    assert found(blocked) == found(free)
    free.close()
    blocked.close()


@pytest.mark.parametrize("phone", [False, True])
def test_a_page_does_not_move_while_its_explorers_start(open_page, http_root, phone):
    """So a link to a section leads there. The figures' room is kept from the start."""
    for name in ("book/explorer", "notebooks/04_tps_tvae"):
        page = open_page(http_root, name, phone)
        page.wait_for_load_state()
        places = (
            "[...document.querySelectorAll('h2')].map(h => scrollY + h.getBoundingClientRect().y)"
        )
        before = page.evaluate(places)
        assert page.locator("tvae-explorer:not([ready])").count() > 0
        start_explorers(page)
        assert page.evaluate(places) == pytest.approx(before, abs=2)


def test_no_directive_stands_on_a_page_as_text(book):
    """A fence whose first line cannot be read, for example one with backticks, is plain text."""
    pages = [*book.rglob("*.html")]
    assert len(pages) > 20
    wrong = [
        p.name
        for p in pages
        if re.search(r"[`:]{3}\{|\{csv-table\}", p.read_text(encoding="utf-8"))
    ]
    assert not wrong


def test_punctuation_stays_with_its_formula(book):
    loose = re.compile(r'<span class="math[^>]*>[^<]*</span>(?=[.,;:?!)\]])')
    joined = re.compile(r'(?s)<span class="joined">.*?</span>[^<]*</span>')
    for path in book.glob("*/*.html"):
        assert not loose.findall(joined.sub("", path.read_text(encoding="utf-8"))), path.name


def test_tables_of_symbols_are_known_to_the_style_sheet(book):
    text = (book / "book" / "notation.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<table class="[^"]*\bsymbols\b', text)) == 5
