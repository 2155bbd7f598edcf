"""The book in Firefox: what a reader does on its pages works there as it does in Chromium.

Playwright drives only a Firefox of its own, so Mozilla's Marionette client drives the installed
one.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from test_reading import LANDING, asked
from visits import FACTS, SETTLE, UNFOLD

MISSING = "no Firefox found: apt install firefox-esr, or set FIREFOX to the path of one"
EXPLORER = "book/explorer"
ENTER = "\ue007"  # WebDriver's code for the key

# The client's packages use deprecated functions, and it leaves sockets open while Firefox starts.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:unclosed <socket:ResourceWarning"
)

# The client's own preferences turn off updates, telemetry and first-run pages.
PREFS = {
    # Send everything to a proxy that does not exist, except what the local server has.
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    # Scroll bars take no width, as on a phone.
    "ui.useOverlayScrollbars": 1,
    # The system's theme is the light one.
    "layout.css.prefers-color-scheme.content-override": 1,
}

# Runs on every page before its own scripts. Listening in the capture phase also hears of pictures,
# scripts and style sheets that do not load.
LISTEN = """
window.trouble = [];
const note = (error) => trouble.push(String(error));
addEventListener("error", (e) => note(e.message ?? `cannot load ${e.target.outerHTML}`), true);
addEventListener("unhandledrejection", (e) => note(`not handled: ${e.reason}`));
const log = console.error;
console.error = (...args) => (note(args.join(" ")), log(...args));
"""
INJECT = f"""addEventListener("DOMWindowCreated", ({{ target }}) =>
    target.defaultView.wrappedJSObject.eval({json.dumps(LISTEN)}))"""

# For a reader, each explorer starts when it comes near the window.
START = """async () => {
  for (const explorer of document.querySelectorAll("tvae-explorer")) {
    explorer.scrollIntoView();
    while (!explorer.hasAttribute("ready")) await new Promise(requestAnimationFrame);
  }
  scrollTo(0, 0);
}"""

# A control of an explorer, by the beginning of its name, moved to the middle of the window.
CONTROL = """(view, name) => {
  const root = document.querySelector(`tvae-explorer[view="${view}"]`).shadowRoot;
  const control = [...root.querySelectorAll("button, [role=slider]")]
    .find((each) => (each.ariaLabel ?? each.textContent).startsWith(name));
  control.scrollIntoView({ block: "center", behavior: "instant" });
  return control;
}"""

# What the pictures of an explorer show, by their names.
PICTURES = """(view) => Object.fromEntries(
  [...document.querySelector(`tvae-explorer[view="${view}"]`).shadowRoot.querySelectorAll("canvas")]
    .map((canvas) => [canvas.ariaLabel, canvas.toDataURL()]))"""

FRAME = "() => [...document.querySelectorAll('.landing-figure canvas')].map(c => c.toDataURL())"


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a Firefox without a window, with a new profile."""
    from marionette_driver.marionette import Marionette  # here, where its warnings are ignored

    path = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        pytest.skip(MISSING)
    folder = str(tmp_path_factory.mktemp("firefox"))
    options = {"workspace": folder, "gecko_log": folder, "prefs": PREFS, "headless": True}
    client = Marionette(bin=path, app="fxdesktop", port=0, **options)
    client.start_session()
    with client.using_context("chrome"):
        script = "Services.mm.loadFrameScript(arguments[0], true)"
        client.execute_script(script, [f"data:,{quote(INJECT)}"])
    yield client
    client.cleanup()


@pytest.fixture
def js(firefox: Any) -> Callable[..., Any]:
    """`js(function, *arguments)` calls a function on the page."""

    def js(function: str, *arguments: Any) -> Any:
        return firefox.execute_script(f"return ({function})(...arguments)", arguments, sandbox=None)

    return js


@pytest.fixture
def visit(firefox: Any, js: Callable[..., Any]) -> Iterator[Callable[..., None]]:
    """`visit(root, name)` opens a page and starts its explorers.

    After the test, the page may not have had any trouble.
    """

    def visit(root: str, name: str) -> None:
        firefox.navigate(f"{root}{name}.html")
        js(SETTLE)
        js(START)

    yield visit
    assert js("() => window.trouble") == []


@pytest.fixture
def narrow(firefox: Any) -> Iterator[None]:
    """A page as wide as a phone. Firefox's window cannot be that narrow, but the page in it can."""
    script = "gBrowser.selectedBrowser.style.maxWidth = arguments[0]"
    with firefox.using_context("chrome"):
        firefox.execute_script(script, ["360px"])
    yield
    with firefox.using_context("chrome"):
        firefox.execute_script(script, [""])


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"nothing happened for {seconds} seconds"
        time.sleep(0.05)


def test_no_page_has_an_error_or_is_wider_than_a_phone(narrow, visit, js, file_root, name):
    visit(file_root, name)
    js(f"() => {UNFOLD}")
    assert js("() => innerWidth") == 360
    assert js(FACTS)["overflow"] == []


def test_another_second_digit_changes_its_pictures_in_the_swap(visit, js, root):
    visit(root, EXPLORER)
    before = js(PICTURES, "swap")
    js(CONTROL, "swap", "second digit").click()
    js(CONTROL, "swap", "a 8, number 3").click()
    mixed = ("second, lying like the first", "first, lying like the second")
    wait_for(lambda: all(js(PICTURES, "swap")[label] != before[label] for label in mixed))
    assert js(PICTURES, "swap")["first, as it lies"] == before["first, as it lies"]


def test_a_dragged_point_moves_the_output(firefox, visit, js, root):
    visit(root, EXPLORER)
    before = js(PICTURES, "pose")
    knob = js(CONTROL, "pose", "right edge of the sampling grid")
    pointer = firefox.actions.sequence("pointer", "mouse", {"pointerType": "mouse"})
    pointer.pointer_move(0, 0, origin=knob).pointer_down()
    pointer.pointer_move(30, -12, duration=200, origin="pointer").pointer_up().perform()
    output, canonical = "output of the decoder", "canonical image"
    wait_for(lambda: js(PICTURES, "pose")[output] != before[output])
    assert js(PICTURES, "pose")[canonical] == before[canonical]


def test_a_number_is_graded(firefox, visit, js, root):
    asks, name = asked("number")
    visit(root, name)
    find = partial(firefox.find_element, "css selector")
    within = f'.tvae-question[data-id="{asks.id}"]'
    field, said = find(f"{within} input"), find(f"{within} [role=status]")
    field.send_keys(str(float(asks.answer) + 10 * asks.tolerance + 1), ENTER)
    assert said.text == f"Not yet. {asks.hint}"
    field.clear()
    field.send_keys(str(asks.answer), ENTER)
    assert said.text == "Right."


def test_the_theme_can_be_switched(firefox, visit, js, root):
    visit(root, EXPLORER)
    find = partial(firefox.find_element, "css selector")
    grounds = {}
    for _ in range(3):
        find("button.theme-switch-button").click()
        mode = js("() => document.documentElement.dataset.mode")
        grounds[mode] = js("() => getComputedStyle(document.body).backgroundColor")
    assert {*grounds} == {"light", "dark", "auto"}
    assert grounds["auto"] == grounds["light"] != grounds["dark"]


def test_the_digit_of_the_landing_page_moves(visit, js, root):
    visit(root, LANDING)
    before = js(FRAME)
    wait_for(lambda: all(a != b for a, b in zip(before, js(FRAME), strict=True)))


def test_the_digit_stands_still_with_reduced_motion(firefox, visit, js, http_root):
    with firefox.using_prefs({"ui.prefersReducedMotion": 1}):
        visit(http_root, LANDING)
        before = js(FRAME)
        time.sleep(0.5)
        assert js(FRAME) == before
        firefox.find_element("css selector", ".landing-figure button").click()
        wait_for(lambda: js(FRAME) != before)
