"""Open a page of the built book, cut off from everything else, and record what is found."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "_build" / "html"
SCREENSHOTS = ROOT / "_build" / "screenshots"

THEMES = ("light", "dark")
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}

# Require a contrast of 4.5 to 1 for large letters too, where axe-core would accept 3. Preloading is
# off because it would fetch style sheets again, from wrong addresses.
AXE = {
    "resultTypes": ["violations"],
    "preload": False,
    "checks": {"color-contrast": {"options": {"contrastRatio": {"large": {"expected": 4.5}}}}},
}

FACTS = Path(__file__).with_name("facts.js").read_text(encoding="utf-8")

# Contrast cannot be measured while a colour changes to another theme, nor layout while a sidebar
# slides.
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"

# Wait for the equations, if there are any, and the fonts.
SETTLE = "async () => { await window.MathJax?.startup?.promise; await document.fonts.ready; }"

# Open everything that a reader can open: solutions and hidden cells.
UNFOLD = "document.querySelectorAll('details').forEach((details) => { details.open = true; })"

# axe-core is slow on many elements. A chapter has thousands of coloured tokens of code but only a
# few dozen kinds, so keep one token of each kind. Equations have as many glyphs, and axe-core sees
# no text in them, so remove them all.
THIN_OUT = """() => {
    document.querySelectorAll("mjx-math").forEach((math) => math.replaceChildren());
    const seen = new Set();
    for (const token of document.querySelectorAll("pre span[class]:not([style])")) {
        if (seen.has(token.className)) token.replaceWith(...token.childNodes);
        seen.add(token.className);
    }
    document.body.normalize();
}"""


def pages() -> list[str]:
    """Every page of the book, as a path relative to its folder, without the suffix.

    The pages in the table of contents come first, built or not, then all others that were built.
    The front door, which only redirects to the first page, has a test of its own.
    """
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]
    built = {path.relative_to(BOOK).with_suffix("").as_posix() for path in BOOK.rglob("*.html")}
    others = {name for name in built if not name.startswith("_")} - {"index", *listed}
    return listed + sorted(others)


@dataclass
class Trouble:
    """What went wrong on a page."""

    errors: list[str] = field(default_factory=list)
    """Errors on the console, and exceptions that no script caught."""
    outside: list[str] = field(default_factory=list)
    """Addresses outside the book that the page requested. The requests were refused."""
    failed: list[str] = field(default_factory=list)
    """Requests within the book that failed."""


@dataclass
class Look:
    """What was found on a page."""

    trouble: Trouble
    facts: dict[str, Any]
    """What facts.js returns."""
    violations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """What axe-core found in each theme. Empty for phones and for pages opened from disk."""


def new_page(context: BrowserContext, root: str) -> tuple[Page, Trouble]:
    """A page that can load nothing outside `root`, and a record of the trouble it has."""
    trouble = Trouble()

    def refuse(route: Route) -> None:
        trouble.outside.append(route.request.url)
        route.abort()

    def note_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            trouble.errors.append(message.text)

    def note_failure(request: Request) -> None:
        # ERR_ABORTED means that we left the page while it was loading, so it is not an error.
        if request.url not in trouble.outside and request.failure != "net::ERR_ABORTED":
            trouble.failed.append(f"{request.failure} {request.url}")

    context.route(re.compile(rf"^(?!{re.escape(root)}|data:|blob:)"), refuse)
    page = context.new_page()
    page.on("console", note_message)
    page.on("pageerror", lambda error: trouble.errors.append(str(error)))
    page.on("requestfailed", note_failure)
    page.on(
        "response",
        lambda answer: answer.ok or trouble.failed.append(f"{answer.status} {answer.url}"),
    )
    return page, trouble


def look_at(browser: Browser, root: str, name: str, *, phone: bool) -> Look:
    """Open a page, save screenshots of it as a reader first sees it, then examine all of it."""
    context = browser.new_context(**(PHONE if phone else DESKTOP), color_scheme="light")
    page, trouble = new_page(context, root)
    page.goto(f"{root}{name}.html")
    page.add_style_tag(content=STILL)
    page.evaluate(SETTLE)
    start_explorers(page)
    # axe-core would find the same from disk, so run it on the server's pages only.
    themes = THEMES if root.startswith("http") and not phone else ()
    if phone:
        keep_screenshot(page, "phone", name)
    for theme in themes:
        page.emulate_media(color_scheme=theme)
        keep_screenshot(page, theme, name)
    page.evaluate(UNFOLD)
    found = Look(trouble, page.evaluate(FACTS))
    page.evaluate(THIN_OUT)
    for theme in themes:
        page.emulate_media(color_scheme=theme)
        found.violations[theme] = Axe().run(page, options=AXE).response["violations"]
    context.close()
    return found


def start_explorers(page: Page) -> None:
    """Start every explorer. For a reader, each starts when it comes near the window."""
    for explorer in page.locator("tvae-explorer").all():
        explorer.scroll_into_view_if_needed()
        explorer.and_(page.locator("[ready]")).wait_for()
    page.evaluate("scrollTo(0, 0)")


def keep_screenshot(page: Page, kind: str, name: str) -> None:
    path = SCREENSHOTS / kind / f"{name.replace('/', '-')}.jpg"
    page.screenshot(path=path, full_page=True, type="jpeg", quality=80)
