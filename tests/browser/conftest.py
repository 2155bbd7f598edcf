"""The built book in a real browser.

`make test-browser` renders the book where it is missing or stale, then runs these tests; `make
test` leaves this folder out.

A test that reads a page as it stands asks for `look`: a page is opened once, and many tests read
what was found (test_pages.py). A test that uses a page asks for `open_page`, which gives a live
one to click, drag and draw on; what is particular to a page is tested in a file of its own here.
"""

import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from visits import BOOK, DESKTOP, PHONE, SETTLE, Look, Trouble, look_at, new_page, pages

# Most containers cannot set up the sandbox, and the pages are our own. The other flags keep the
# browser from traffic of its own.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", pages())


def find_chromium(playwrights_own: str) -> str | None:
    """The browser to use: $CHROMIUM, one on the path, or the one that playwright installed."""
    if chosen := os.environ.get("CHROMIUM"):
        return chosen
    for command in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(command):
            return found
    return playwrights_own if Path(playwrights_own).exists() else None


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = find_chromium(playwright.chromium.executable_path)
        if path is None:
            message = "no Chromium: apt install chromium, or name one in CHROMIUM"
            # Where the tests guard a change, a missing browser must not pass for a pass.
            (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def book() -> Path:
    if not (BOOK / "index.html").exists():
        pytest.fail("the book is not built: run `make book`")
    return BOOK


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def http_root(book: Path) -> Iterator[str]:
    """The address of the book on a server."""
    handler = partial(Quiet, directory=str(book))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def file_root(book: Path) -> str:
    """The address of the book on the disk."""
    return f"{book.as_uri()}/"


@pytest.fixture(params=["http", "file"])
def root(request: pytest.FixtureRequest) -> str:
    """Where a page is opened from: the server, then the disk."""
    return request.getfixturevalue(f"{request.param}_root")


@pytest.fixture(scope="session")
def look(browser: Browser) -> Callable[..., Look]:
    """What was found on a page, `look(root, name, phone=False)`; each is visited once."""

    @cache
    def look(root: str, name: str, phone: bool = False) -> Look:
        return look_at(browser, root, name, phone=phone)

    return look


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a live page, `open_page(root, name, phone=False)`.

    When the test is over, no page may have met any trouble.
    """
    opened: list[tuple[BrowserContext, Trouble]] = []

    def open_page(root: str, name: str, phone: bool = False) -> Page:
        context = browser.new_context(**(PHONE if phone else DESKTOP))
        page, trouble = new_page(context, root)
        opened.append((context, trouble))
        page.goto(f"{root}{name}.html")
        page.evaluate(SETTLE)
        return page

    yield open_page
    for context, trouble in opened:
        context.close()
        assert trouble == Trouble()
