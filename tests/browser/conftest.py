"""The built book in a real browser.

`make test-browser` builds the book if it is missing or out of date, then runs these tests. `make
test` does not include this folder.

Tests that only read a page use the fixture `look`: it opens each page once, and many tests read
what it found (test_pages.py). Tests that interact use `open_page`, which gives them a live page to
click, drag and draw on. Tests for one particular page have a file of their own.
"""

import http.server
import os
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from chromium import FLAGS, MISSING, find_chromium
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from visits import BOOK, DESKTOP, PHONE, SETTLE, Look, Trouble, look_at, new_page, pages


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", pages())


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = find_chromium(playwright.chromium.executable_path)
        if path is None:
            # CI must not go green because the browser is missing.
            (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def book() -> Path:
    if not (BOOK / "index.html").exists():
        pytest.fail("the book has not been built: run `make book`")
    return BOOK


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def http_root(book: Path) -> Iterator[str]:
    """The book's URL on a local server."""
    handler = partial(Quiet, directory=str(book))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def file_root(book: Path) -> str:
    """The book's file:// URL."""
    return f"{book.as_uri()}/"


@pytest.fixture(params=["http", "file"])
def root(request: pytest.FixtureRequest) -> str:
    """Each place that pages are opened from: the server, then the disk."""
    return request.getfixturevalue(f"{request.param}_root")


@pytest.fixture(scope="session")
def look(browser: Browser) -> Callable[..., Look]:
    """`look(root, name, phone=False)` is what was found on a page. Each page is visited once."""

    @cache
    def look(root: str, name: str, phone: bool = False) -> Look:
        return look_at(browser, root, name, phone=phone)

    return look


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """`open_page(root, name, phone=False)` opens a live page.

    Other options, such as `color_scheme`, are those of Playwright's `new_context`. After the test,
    no page may have had any trouble.
    """
    opened: list[tuple[BrowserContext, Trouble]] = []

    def open_page(root: str, name: str, phone: bool = False, **options: Any) -> Page:
        context = browser.new_context(**(PHONE if phone else DESKTOP), **options)
        page, trouble = new_page(context, root)
        opened.append((context, trouble))
        page.goto(f"{root}{name}.html")
        page.evaluate(SETTLE)
        return page

    yield open_page
    for context, trouble in opened:
        context.close()
        assert trouble == Trouble()
