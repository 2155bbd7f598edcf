"""A reader commits to a prediction, and then sees the answer beside it (book/static/guess.js)."""

from playwright.sync_api import Browser, Locator, Page
from visits import pages

CHAPTER = {name[10:12]: name for name in pages() if name.startswith("notebooks/")}
ASKED = """all => all.filter(
    (each) => /^Predict/.test(each.textContent) && !each.closest("details")
).length"""
COMMIT = "Commit, and see the answer"
NOTHING = "Write something first, if only a number."


def status(form: Locator) -> str:
    return form.get_by_role("status").inner_text()


def fold(page: Page, summary: str) -> Locator:
    return page.locator(f'details:has(> summary:has-text("{summary}"))')


def is_open(element: Locator) -> bool:
    return element.evaluate("fold => fold.open")


def test_every_prediction_of_a_chapter_asks_for_a_guess(open_page, http_root, subtests):
    for chapter in CHAPTER.values():
        with subtests.test(chapter):
            page = open_page(http_root, chapter)
            asked = page.locator("article strong").evaluate_all(ASKED)
            # One sentence may ask for a list of predictions.
            lists = page.locator("article ol:has(> li > form.guess)")
            more = lists.locator("> li").count() - lists.count()
            assert page.locator("form.guess").count() == asked + more > 0


def test_a_guess_in_words_stands_beside_the_answer_that_it_opens(open_page, root):
    page = open_page(root, CHAPTER["01"])
    form = page.locator("form.guess").first
    answers = [fold(page, "Your guess first").first, fold(page, "The answer in words").first]
    form.get_by_role("button", name=COMMIT).click()
    assert status(form) == NOTHING
    assert not any(map(is_open, answers))
    form.get_by_role("textbox").fill("about 100 <b>")
    form.get_by_role("textbox").press("Enter")
    assert all(map(is_open, answers))
    assert answers[0].locator("p.said").inner_text() == "Your guess: about 100 <b>"
    assert status(form) == "Your guess: about 100 <b>"
    assert form.get_by_role("button").count() == 0
    # The answers to other predictions stay folded.
    others = fold(page, "Your guess first").all()[1:]
    assert others
    assert not any(map(is_open, others))


def test_a_choice_among_the_listed_options(open_page, http_root):
    page = open_page(http_root, CHAPTER["11"])
    form = page.locator("ol + form.guess")
    form.get_by_role("button", name="Commit").click()
    assert status(form) == "Choose one first."
    option = page.locator("ol:has(+ form.guess) > li").nth(2)
    option.get_by_role("radio").check()
    form.get_by_role("button", name="Commit").click()
    assert status(form) == f"Your guess: {option.inner_text().strip()} Read on."


def test_a_late_answer_quotes_the_guesses_of_the_opening_question(open_page, http_root):
    page = open_page(http_root, CHAPTER["12"])
    items = page.locator("ol > li:has(> form.guess)")
    assert items.count() == 4
    for i, guess in enumerate(("ten", "twenty")):
        items.nth(i).get_by_role("textbox").fill(guess)
        items.nth(i).get_by_role("button", name="Commit").click()
    late = fold(page, "Answers to the first two predictions")
    assert not is_open(late)
    late.locator("summary").click()
    assert late.locator("ul.said li").all_inner_texts() == ["Your guess: ten", "Your guess: twenty"]


def sketch(page: Page) -> tuple[Locator, Locator]:
    """The first prediction of chapter 6 about curves, after a stroke of the pen; and the sheet."""
    form = page.locator('p:has-text("draw two curves against") + form.guess')
    form.get_by_role("button", name="Sketch it").click()
    sheet = form.locator("svg.sheet")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    page.mouse.move(box["x"] + 80, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 100, steps=5)
    page.mouse.up()
    return form, sheet


def test_a_sketch_is_drawn_on_empty_axes_and_lies_on_the_plot_of_the_answer(open_page, http_root):
    page = open_page(http_root, CHAPTER["06"])
    form, sheet = sketch(page)
    plot = form.locator("xpath=following::details//*[@class='plot']").first
    curves, words = '[id*="axes_"] > [id*="line2d_"] path', '[id*="axis_"] [id*="text_"]'
    assert sheet.locator(curves).count() == 0 < plot.locator(curves).count()
    assert sheet.locator(words).count() == plot.locator(words).count() > 0
    drawn = sheet.locator("path.sketch").get_attribute("d")
    scale = sheet.evaluate("each => each.viewBox.baseVal.width / each.clientWidth")
    x, y = map(float, drawn.split()[1:3])
    assert abs(x - 80 * scale) < 2  # where the pen was put down
    assert abs(y - 150 * scale) < 2
    form.get_by_role("button", name=COMMIT).click()
    assert plot.is_visible()
    assert plot.locator("path.sketch").get_attribute("d") == drawn
    assert status(form) == "Your guess: as you have drawn it"


def test_a_sheet_to_sketch_on_shows_no_picture_of_the_answer(open_page, http_root):
    page = open_page(http_root, CHAPTER["03"])
    buttons = page.get_by_role("button", name="Sketch it").all()
    for button in buttons:
        button.click()
    sheets = page.locator("form.guess svg.sheet")
    assert sheets.count() == len(buttons) > 0
    assert page.locator("svg.plot image").count() > 0
    assert sheets.locator("image").count() == 0


def test_a_sketch_can_be_started_again(open_page, http_root):
    page = open_page(http_root, CHAPTER["06"])
    form, sheet = sketch(page)
    form.get_by_role("button", name="Start again").click()
    assert sheet.count() == 1
    assert form.locator("path.sketch").count() == 0
    form.get_by_role("button", name=COMMIT).click()
    assert status(form) == NOTHING


def test_without_scripts_the_answers_are_folded(browser: Browser, http_root):
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{http_root}{CHAPTER['06']}.html")
        assert page.locator("form.guess").count() == 0
        answers = fold(page, "Your guess first").all()
        assert answers
        assert all(answer.get_attribute("open") is None for answer in answers)
