"""What a reader does on the pages: answer questions, look terms up, search, print, look around."""

import gzip
import json
import re
from itertools import pairwise
from urllib.parse import unquote

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from test_pages import BLOCKED
from test_questions import levels_of, read_by
from test_theme import contrast
from visits import BOOK, DESKTOP, SETTLE, Trouble, new_page, pages

from tvae_core.questions import LETTERS, QUESTIONS

LANDING = "book/welcome"
CHAPTER = {name[10:12]: name for name in pages() if name.startswith("notebooks/")}


def question(page: Page, name: str):
    return page.locator(f'.tvae-question[data-id="{name}"]')


def asked(kind: str):
    """A question of a kind, and the page that it stands on."""
    found = next(q for each in QUESTIONS.values() for q in each if q.kind == kind)
    return found, CHAPTER[found.id[:2]]


# Questions.


def test_a_number_is_graded_with_a_hint_after_a_miss(open_page, root):
    asks, name = asked("number")
    page = open_page(root, name)
    element = question(page, asks.id)
    field, said = element.get_by_role("textbox"), element.get_by_role("status")
    assert not element.locator("details").evaluate("each => each.open")
    field.fill("nonsense")
    field.press("Enter")
    assert said.inner_text() == "Write a number, such as 4.2."
    field.fill(str(float(asks.answer) + 10 * asks.tolerance + 1))
    field.press("Enter")
    assert said.inner_text() == f"Not yet. {asks.hint}"
    assert not element.locator("details").evaluate("each => each.open")
    field.fill(str(asks.answer))
    field.press("Enter")
    assert said.inner_text() == "Right."
    assert element.locator("details").evaluate("each => each.open")
    assert "answered" in element.get_attribute("class")


def test_a_choice_is_graded_by_keyboard_alone(open_page, http_root):
    asks, name = asked("choice")
    page = open_page(http_root, name)
    element = question(page, asks.id)
    element.get_by_role("radio").first.focus()
    page.keyboard.press("Space")
    for _ in range(LETTERS.index(asks.answer)):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert element.get_by_role("status").inner_text() == "Right."
    element.get_by_role("radio").nth((LETTERS.index(asks.answer) + 1) % 3).check()
    element.get_by_role("button").click()
    assert element.get_by_role("status").inner_text() == f"Not yet. {asks.hint}"


def test_an_order_is_graded(open_page, http_root):
    asks, name = asked("order")
    page = open_page(http_root, name)
    element = question(page, asks.id)
    for place, letter in enumerate(asks.answer):
        words = asks.options[LETTERS.index(letter)]
        up = element.get_by_role("button", name=f"Move up: {words}", exact=True)
        while element.locator("li").all_inner_texts()[place].split(". ", 1)[1] != words:
            up.press("Enter")
            expect(up).to_be_focused()
    element.get_by_role("button", name="Check").click()
    assert element.get_by_role("status").inner_text() == "Right."


def sliders(element) -> list[Locator]:
    names = ("turn", "scale", "shift along x", "shift along y")
    return [element.get_by_role("slider", name=name) for name in names]


LEVELS = """canvas => [...canvas.getContext("2d").getImageData(0, 0, 28, 28).data]
    .filter((_, i) => i % 4 === 0)"""


def test_a_match_is_made_by_keyboard_with_a_hint_after_a_miss(open_page, root):
    asks, name = asked("match")
    page = open_page(root, name)
    element = question(page, asks.id)
    said, output = element.get_by_role("status"), element.locator("canvas")

    def drawn() -> np.ndarray:
        return np.array(output.evaluate(LEVELS)).reshape(28, 28)

    source, target = (levels_of(asks, each) for each in ("input", "target"))
    assert (drawn() == source).all()
    turn, *others = sliders(element)
    turn.focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")  # the other way
    assert turn.get_attribute("aria-valuetext") == "\N{MINUS SIGN}30°"
    expect(element.get_by_text("\N{MINUS SIGN}30°")).to_be_visible()
    assert np.abs(drawn() - read_by((-30, 1, 0, 0), source)).max() <= 1
    element.get_by_role("button", name="Check").press("Enter")
    assert said.inner_text() == f"Not yet. {asks.hint}"
    assert not element.locator("details").evaluate("each => each.open")
    turn.focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    for slider, value in zip(others, asks.answer[1:], strict=True):
        slider.fill(str(value))
    assert np.abs(drawn() - target).max() <= 1
    assert output.get_attribute("aria-label") == asks.pictures["target"]["alt"]
    others[1].fill(str(asks.answer[2] + 2 * asks.tolerance[2]))  # one of four is wrong
    element.get_by_role("button", name="Check").click()
    assert said.inner_text() == f"Not yet. {asks.hint}"
    others[1].fill(str(asks.answer[2]))
    element.get_by_role("button", name="Check").click()
    assert said.inner_text() == "Right."
    assert element.locator("details").evaluate("each => each.open")


@pytest.mark.parametrize(("theme", "width"), [("light", 1100), ("dark", 1100), ("dark", 360)])
def test_the_pictures_of_a_match_are_alike_in_size_and_side_by_side(
    browser, http_root, theme, width
):
    """The theme pads pictures in dark mode and widens them on a phone, but not a canvas."""
    asks, name = asked("match")
    viewport = {"width": width, "height": 800}
    context = browser.new_context(viewport=viewport, color_scheme=theme)
    page, trouble = new_page(context, http_root)
    page.goto(f"{http_root}{name}.html")
    boxes = (
        question(page, asks.id)
        .locator(".pictures :is(img, canvas)")
        .evaluate_all(
            """all => all.map(each => {
            const { x, y, width, height } = each.getBoundingClientRect();
            return [x, x + width, y, width, height, getComputedStyle(each).padding];
        })"""
        )
    )
    assert len(boxes) == 3
    (_, _, *first), *others = boxes
    assert all(rest == pytest.approx(first[:3]) for _, _, *rest, _ in others)
    assert {padding for *_, padding in boxes} == {"0px"}
    assert all(a[1] < b[0] for a, b in pairwise(boxes))
    assert boxes[-1][1] < width
    assert trouble == Trouble()
    context.close()


def test_every_question_can_be_answered_on_its_page(open_page, http_root):
    """The data on a page are those of the module, so one page for each chapter is enough."""
    for chapter, questions in QUESTIONS.items():
        page = open_page(http_root, CHAPTER[chapter])
        assert page.locator(".tvae-question form").count() == len(questions)
        for each in questions:
            element = question(page, each.id)
            if each.kind == "number":
                element.get_by_role("textbox").fill(str(each.answer))
            elif each.kind == "choice":
                element.locator(f'input[value="{each.answer}"]').check()
            elif each.kind == "match":
                for slider, value in zip(sliders(element), each.answer, strict=True):
                    slider.fill(str(value))
            else:
                continue
            element.get_by_role("button", name="Check").click()
            assert element.get_by_role("status").inner_text() == "Right.", each.id


def test_progress_is_kept_in_this_browser_and_shown_on_the_map(browser: Browser, http_root):
    asks, name = asked("number")
    context = browser.new_context(**DESKTOP)
    page, trouble = new_page(context, http_root)
    for visit in range(2):
        page.goto(f"{http_root}{name}.html")
        element = question(page, asks.id)
        assert ("answered" in element.get_attribute("class")) == bool(visit)
        element.get_by_role("textbox").fill(str(asks.answer))
        element.get_by_role("button").click()
    page.goto(f"{http_root}book/map.html")
    total = len(QUESTIONS[asks.id[:2]])
    expect(page.get_by_text(f"1 of {total} answered")).to_be_visible()
    assert trouble == Trouble()
    context.close()


def test_questions_work_where_storage_is_blocked_and_without_scripts(browser: Browser, http_root):
    asks, name = asked("number")
    context = browser.new_context(**DESKTOP)
    context.add_init_script(BLOCKED)
    page, trouble = new_page(context, http_root)
    page.goto(f"{http_root}{name}.html")
    element = question(page, asks.id)
    element.get_by_role("textbox").fill(str(asks.answer))
    element.get_by_role("button").click()
    assert element.get_by_role("status").inner_text() == "Right."
    assert trouble == Trouble()
    context.close()
    context = browser.new_context(**DESKTOP, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{http_root}{name}.html")
    folded = page.locator(f'.tvae-question[data-id="{asks.id}"] details')
    folded.locator("summary").click()
    expect(folded).to_contain_text(asks.why)
    context.close()


# The landing page.


def weights(browser: Browser, root: str, name: str) -> dict[str, int]:
    """The bytes of all that a page loads, as a server would send them, compressed."""
    context = browser.new_context(**DESKTOP)
    page, sizes = context.new_page(), {}

    def note(answer) -> None:
        body = answer.body()
        packed = re.search(r"png|jpe?g|woff", answer.url) is not None
        sizes[answer.url] = len(body) if packed else len(gzip.compress(body))

    page.on("response", note)
    page.goto(f"{root}{name}.html")
    page.evaluate(SETTLE)
    context.close()
    return sizes


def test_the_landing_page_weighs_at_most_400_kb(browser, http_root):
    sizes = weights(browser, http_root, LANDING)
    assert sum(sizes.values()) < 400_000, json.dumps(sizes, indent=1)
    assert not [url for url in sizes if "mathjax" in url or "fontawesome" in url]


def test_pages_with_formulas_have_mathjax(browser, http_root):
    assert [u for u in weights(browser, http_root, "book/notation") if "mathjax" in u]


def frame(page: Page) -> list[str]:
    return page.locator(".landing-figure canvas").evaluate_all("all => all.map(c => c.toDataURL())")


def test_the_digit_moves_and_can_be_stopped(open_page, root):
    page = open_page(root, LANDING)
    figure = page.locator(".landing-figure")
    before = frame(page)
    page.wait_for_timeout(600)
    after = frame(page)
    assert before[0] != after[0]  # the grid
    assert before[1] != after[1]  # what it sees
    figure.get_by_role("button", name="Pause").click()
    stopped = frame(page)
    page.wait_for_timeout(300)
    assert frame(page) == stopped
    figure.get_by_role("button", name="Play").click()
    page.wait_for_timeout(600)
    assert frame(page) != stopped
    assert figure.bounding_box()["y"] + 200 < 900  # on the first screen


def test_the_digit_stands_still_with_reduced_motion(browser: Browser, http_root):
    context = browser.new_context(**DESKTOP, reduced_motion="reduce")
    page, trouble = new_page(context, http_root)
    page.goto(f"{http_root}{LANDING}.html")
    before = frame(page)
    page.wait_for_timeout(500)
    assert frame(page) == before
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(500)
    assert frame(page) != before
    assert trouble == Trouble()
    context.close()


def test_without_scripts_the_landing_page_shows_a_picture(browser: Browser, http_root):
    context = browser.new_context(**DESKTOP, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{http_root}{LANDING}.html")
    expect(page.locator(".landing-figure > img")).to_be_visible()
    expect(page.locator(".landing-figure canvas").first).to_be_hidden()
    context.close()


def test_the_explorer_is_among_the_first_links_of_the_landing_page(open_page, http_root):
    page = open_page(http_root, LANDING)
    first = page.locator(".bd-article a.reference").evaluate_all("all => all.map(a => a.href)")[:3]
    assert f"{http_root}book/explorer.html" in first


# What a page tells of itself.


def test_a_page_describes_itself(open_page, http_root, name):
    if name in ("404", "genindex", "search"):
        return
    page = open_page(http_root, name)
    content = "all => all.map(each => each.content)"
    (said,) = page.locator('meta[name="description"]').evaluate_all(content)
    assert 40 < len(said) <= 200
    assert not re.search(r"\\|\$|`|\]\(", said)
    (canonical,) = page.locator('link[rel="canonical"]').evaluate_all("all => all.map(a => a.href)")
    assert canonical.endswith(f".github.io/what-and-where/{name}.html")
    (image,) = page.locator('meta[property="og:image"]').evaluate_all(content)
    assert (BOOK / image.split("/what-and-where/")[1]).is_file()
    parts = page.title().split(" — ")
    assert len({*parts}) == len(parts) == 2
    assert canonical in (BOOK / "sitemap.xml").read_text(encoding="utf-8")
    release = r"Release v[\d.]+, rendered \d{4}-\d\d-\d\d"
    assert re.search(release, page.locator("body").text_content())


def test_chapters_are_numbered_on_across_the_parts(open_page, http_root):
    page = open_page(http_root, LANDING)
    links = page.locator('.bd-links a[href*="notebooks/"]').all_text_contents()
    assert [int(text.split(".")[0]) for text in links] == [*range(1, len(CHAPTER) + 1)]


def test_no_two_pages_have_one_title(open_page, http_root):
    page = open_page(http_root, LANDING)
    titles = page.locator(".bd-links li > a").all_text_contents()
    names = [re.sub(r"^\s*\d+\.", "", title).strip() for title in titles]
    assert len(names) > 20
    assert len({*names}) == len(names)


def test_the_front_door_says_what_is_behind_it_where_nothing_redirects(browser, http_root):
    text = (BOOK / "index.html").read_text(encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(re.sub("<meta http-equiv=[^>]*>", "", text))
    assert page.title() == "What and Where"
    assert page.locator("a").get_attribute("href") == f"{LANDING}.html"
    for meta in ('name="description"', 'property="og:image"'):
        assert page.locator(f"meta[{meta}]").get_attribute("content")
    canonical = page.locator('link[rel="canonical"]').get_attribute("href")
    assert canonical.endswith(f"/what-and-where/{LANDING}.html")
    context.close()


def test_lost_readers_find_the_book(open_page, http_root):
    page = open_page(http_root, "404")
    assert page.locator("h1").inner_text() == "This page is not here"
    links = page.locator("a").evaluate_all("all => all.map(a => a.href)")
    for link in links:
        assert (BOOK / link.split("/what-and-where/")[1]).is_file()
    # Its own copy, since a server may answer any address with this page.
    icon = page.locator("link[rel=icon]").get_attribute("href").removeprefix("data:image/svg+xml,")
    assert unquote(icon) == (BOOK / "_static" / "favicon.svg").read_text(encoding="utf-8")


def test_every_icon_is_there(open_page, http_root, name):
    page = open_page(http_root, name)
    missing = page.locator("[class*='fa-'], .fab, .fas").evaluate_all(
        "all => all.filter(i => !getComputedStyle(i).getPropertyValue('--icon'))"
        ".map(i => i.className)"
    )
    assert not [each for each in missing if isinstance(each, str)]


# Reading.


def test_no_formula_is_a_stop_for_the_tab_key(open_page, http_root):
    page = open_page(http_root, CHAPTER["03"])
    assert page.locator("mjx-container").count() > 50
    assert page.locator('mjx-container[tabindex="0"]').count() == 0


def test_a_term_is_linked_once_and_has_a_card(open_page, http_root):
    page = open_page(http_root, CHAPTER["05"])
    links = page.locator('.bd-article a[href*="glossary.html#term-"]')
    targets = links.evaluate_all("all => all.map(a => a.hash)")
    assert len(targets) > 10
    assert len(targets) == len({*targets})
    link = page.locator('.bd-article a[href$="#term-ELBO"]')
    for act in (link.hover, link.focus):
        act()
        card = page.get_by_role("tooltip")
        expect(card).to_contain_text("Evidence lower bound")
        assert card.locator("mjx-container").count() > 0
        page.keyboard.press("Escape")
        expect(card).to_have_count(0)
        page.mouse.move(0, 0)


def test_a_citation_has_a_card_that_says_what_it_cites(open_page, http_root):
    page = open_page(http_root, CHAPTER["05"])
    link = page.locator(".bd-article a[data-cites]", has_text="Burda").first
    for act in (link.hover, link.focus):
        act()
        card = page.get_by_role("tooltip")
        for said in ("Yuri Burda", "Importance", "International Conference", "2016"):
            expect(card).to_contain_text(said)
        page.keyboard.press("Escape")
        expect(card).to_have_count(0)
        page.mouse.move(0, 0)


def test_every_citation_of_the_book_is_in_the_references(open_page, http_root):
    page = open_page(http_root, "book/references")
    href = "all => all.map(a => a.getAttribute('href'))"
    listed = {*page.locator(".citation a").evaluate_all(href)}
    for name in CHAPTER.values():
        text = (BOOK / f"{name}.html").read_text(encoding="utf-8")
        assert {*re.findall(r'href="([^"]*)" data-cites=', text)} <= listed


def test_the_glossary_leads_back_to_where_a_term_is_first_used(open_page, http_root):
    page = open_page(http_root, "book/glossary")
    term = page.locator("dt", has_text=re.compile("^ELBO"))
    link = term.locator("+ dd .first-use a")
    href = link.get_attribute("href")
    assert page.locator(".first-use").count() > 40
    link.click()
    target = page.locator(f"[id='{href.split('#')[1]}']")
    expect(target).to_be_in_viewport()
    assert target.inner_text() == "ELBO"


def test_a_fold_says_what_it_holds(open_page, http_root):
    for name in CHAPTER.values():
        text = (BOOK / f"{name}.html").read_text(encoding="utf-8")
        assert "code cell" not in text
    page = open_page(http_root, CHAPTER["05"])
    for label, holds in (
        ("Show the plotting code", "plt.subplots"),
        ("Show the imports", "import"),
    ):
        fold = page.locator("details", has_text=label).first
        assert holds in fold.locator("pre").text_content()


QUERIES = {
    "how to use my own images": ("Reading and running", "map of the book"),
    "reparameterization trick": ("plain VAE", "map of the book"),
    "posterior collapse": ("Glossary", "map of the book"),
    "GPU": ("Reading and running",),
    "importance weighting": ("Importance weighting",),
    "thin-plate spline": ("thin-plate-spline", "Spatial transformers"),
    "canonical image": ("affine transformer VAE", "Glossary"),
    "annealed importance sampling": ("NLL you can trust",),
    "effective sample size": ("NLL you can trust", "Importance weighting"),
    "binarization": ("Importance weighting", "Glossary"),
    "straightening": ("Look again", "Glossary"),
    "MIWAE": ("gradient lab", "Multi-sample bounds"),
    "Colab": ("Reading and running",),
    "align_corners": ("Spatial transformers", "pitfall museum", "Notation"),
}


@pytest.mark.parametrize("query", QUERIES)
def test_search_finds_what_readers_look_for(open_page, http_root, query):
    page = open_page(http_root, "search")
    page.goto(f"{http_root}search.html?q={query.replace(' ', '+')}")
    page.locator("#search-results li a").first.wait_for()
    page.wait_for_timeout(300)
    found = page.locator("#search-results li > a").all_inner_texts()[:5]
    assert any(title in text for text in found for title in QUERIES[query]), found


@pytest.mark.parametrize("phone", [False, True])
def test_the_icon_of_the_search_stands_left_of_the_words(open_page, http_root, phone):
    page = open_page(http_root, "search", phone=phone)
    form = page.locator(".bd-search-container form.bd-search")
    icon = form.locator("i").bounding_box()
    field = form.locator("input")
    padding = field.evaluate("e => parseFloat(getComputedStyle(e).paddingLeft)")
    words = field.bounding_box()["x"] + padding
    assert icon["x"] + icon["width"] < words < icon["x"] + 3 * icon["width"]


def test_a_search_quotes_what_the_page_says(open_page, http_root):
    """And not the title and the sections again, which the theme keeps for the paper."""
    page = open_page(http_root, "search")
    page.goto(f"{http_root}search.html?q=notation")
    quoted = page.locator("#search-results li", has_text="Notation").first.locator(".context")
    quoted.wait_for()
    assert quoted.inner_text().count("Notation") == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_questions_can_be_read_in_either_theme(open_page, http_root, theme):
    """The ground is that of the nearest element around a question that has one."""
    page = open_page(http_root, CHAPTER["05"], color_scheme=theme)
    colours = """e => {
        const parts = colour => colour.match(/[\\d.]+/g).map(Number);
        const ground = element => parts(getComputedStyle(element).backgroundColor);
        let around = e;
        while (ground(around)[3] === 0) around = around.parentElement;
        return [getComputedStyle(e), getComputedStyle(around)].map((style, i) =>
            parts(i ? style.backgroundColor : style.color).slice(0, 3));
    }"""
    text, ground = page.locator(".tvae-question p").first.evaluate(colours)
    assert contrast(*("#" + "".join(f"{v:02x}" for v in c) for c in (text, ground))) > 7
