"""Print the rendered book into one PDF file: _build/pdf/what-and-where.pdf.

`make pdf` renders the book and calls this. The articles of all pages, in the order of the contents,
become one page, which Chromium prints twice: the second time its contents have page numbers.

What is folded on a page is open in the PDF, answers and solutions too. Plotting code, training logs
and whatever needs a browser to work are left out.
"""

import html
import io
import posixpath
import re
import sys
from pathlib import Path
from urllib.parse import unquote

import chromium
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser, sync_playwright
from pypdf import PdfReader, PdfWriter

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
PDF = ROOT / "_build" / "pdf" / "what-and-where.pdf"
UNWANTED = (
    "script, a.headerlink, canvas, button, input, .tvae-questions [role=status], "
    ".tag_hide-input details, .onlyprint, tvae-explorer:not(:has(img))"
)
LOGS = "Show the training log"
STYLE = """
:root { --pst-font-size-base: 15px; }
html { scroll-padding: 0; }
.bd-content, .bd-article { display: block; padding: 0 !important; }
.page { break-before: page; }
.list-of-pages a { display: flex; justify-content: space-between; text-decoration: none; }
.list-of-pages .part { margin: 1rem 0 0.2rem; font-weight: 600; }
h1, h2, h3, h4, .admonition-title, table caption, summary { break-after: avoid; }
figure, .cell_output, svg, img, tr, .tvae-question { break-inside: avoid; }
pre { white-space: pre-wrap !important; overflow-wrap: anywhere; }
pre { break-inside: auto !important; orphans: 4; widows: 4; }
div.math, .pst-scrollable-table-container, .text_html, .highlight { overflow: visible !important; }
table { font-size: 0.72rem !important; width: auto; max-width: 100%; }
table :is(td, th) { white-space: normal !important; padding-inline: 0.25rem !important; }
details > summary { list-style: none; }
.front { text-align: center; padding-top: 30vh; }
.admonition { break-inside: auto; box-shadow: none; }
"""
FOOTER = (
    '<div style="font: 9px sans-serif; width: 100%; text-align: center; color: #444">'
    '<span class="pageNumber"></span></div>'
)
READY = """async () => {
    await window.MathJax?.startup?.promise;
    await document.fonts.ready;
    for (const image of document.images) await image.decode().catch(() => null);
}"""


def anchor(page: str, fragment: str = "") -> str:
    """The id, in the one page, of a page or of a place on it."""
    slug = page.replace("/", "-")
    return f"{slug}--{fragment}" if fragment else slug


def contents(front: BeautifulSoup) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each part of the book with its pages, (page, title), from the sidebar of the first page."""
    found: list[tuple[str, list[tuple[str, str]]]] = [("", [])]
    for element in front.select_one("nav.bd-links").select("p.caption, li > a"):
        title = " ".join(element.get_text().split())
        if element.name == "p":
            found.append((title, []))
        elif "://" not in element["href"]:
            page = posixpath.normpath(posixpath.join("book", element["href"].split("#")[0]))
            page = "book/welcome" if page in ("book", "book/.") else page.removesuffix(".html")
            found[-1][1].append((page, title))
    return found


def place(page: str, link: str, known: set[str], address: str) -> str:
    """Where a link of a page leads from within the PDF."""
    target, _, fragment = link.partition("#")
    if "://" in target or target.startswith(("mailto:", "data:")):
        return link
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target or f"{page}.html"))
    path = path if target else f"{page}.html"
    if (name := path.removesuffix(".html")) in known:
        return f"#{anchor(name, unquote(fragment))}"
    return f"{address}{path}"


def article(page: str, known: set[str], address: str) -> Tag:
    """What a page says, ready to stand beside the other pages."""
    soup = BeautifulSoup((HTML / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
    body = soup.select_one("article.bd-article > section")
    for element in body.select(UNWANTED):
        element.decompose()
    for details in body.select("details"):
        if LOGS in details.get_text():
            details.decompose()
        elif "hide" in details.get("class", []):  # a cell: no label, nothing to open
            details.summary.decompose()
            details.name, details["class"] = "div", []
        else:
            details["open"] = ""
    for element in [body, *body.find_all(True)]:
        for name, value in list(element.attrs.items()):
            if name == "id":
                element[name] = anchor(page, value)
            elif name == "href":
                element[name] = place(page, value, known, address)
            elif name == "src" and not value.startswith("data:"):
                source = posixpath.normpath(posixpath.join(posixpath.dirname(page), value))
                element[name] = f"../html/{source}"
            elif isinstance(value, str) and "url(#" in value:
                element[name] = value.replace("url(#", f"url(#{anchor(page, ' ').strip()}")
    for image in body.select("img[loading]"):
        del image["loading"]
    wrapper = soup.new_tag("div", id=anchor(page), attrs={"class": "page"})
    wrapper.append(body)
    return wrapper


def listing(parts: list[tuple[str, list[tuple[str, str]]]], numbers: dict[str, int]) -> str:
    """The contents, with the numbers of pages that are known."""
    lines = []
    for part, pages in parts:
        lines.append(f'<p class="part">{part}</p>' if part else "")
        for page, title in pages:
            number = numbers.get(anchor(page), "000")
            link = f'<a href="#{anchor(page)}"><span>{title}</span><span>{number}</span></a>'
            lines.append(link)
    return f'<nav class="list-of-pages page"><h1>Contents</h1>{"".join(lines)}</nav>'


def one_page() -> tuple[str, list[tuple[str, list[tuple[str, str]]]]]:
    """The whole book as a page, with `{contents}` where the contents belong, and these."""
    front = BeautifulSoup((HTML / "book/welcome.html").read_text(encoding="utf-8"), "html.parser")
    chapter = BeautifulSoup(
        (HTML / "notebooks/01_vae.html").read_text(encoding="utf-8"), "html.parser"
    )
    parts = contents(front)
    pages = [page for _, listed in parts for page, _ in listed]
    address = front.select_one("link[rel=canonical]")["href"].removesuffix("book/welcome.html")
    head = [str(link) for link in chapter.select('link[rel="stylesheet"]')]
    head += [str(s) for s in chapter.select("script") if "mathjax" in str(s).lower()]
    links = "".join(head).replace('="../_static', '="../html/_static')
    release = front.find(string=re.compile(r"Release v[\d.]+, rendered"))
    body = "".join(str(article(page, {*pages}, address)) for page in pages)
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light"><head>'
        f'<meta charset="utf-8"><title>What and Where</title>{links}<style>{STYLE}</style></head>'
        f'<body><div class="bd-content"><div class="bd-article"><div class="front">'
        f"<p style='font-size: 3rem'>What and Where</p>"
        f"<p>Transformer VAEs and tighter bounds, built by hand</p><p>{release}</p>"
        f"<p><a href='{address}'>{address}</a></p>"
        f"<p>What the pages fold away is open here, answers and solutions too. Plotting code and "
        f"training logs are left out.</p></div>{{contents}}{body}</div></div></body></html>"
    ), parts


def print_pdf(browser: Browser) -> Path:
    """Print the book, and return the path of the file."""
    text, parts = one_page()
    PDF.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "format": "A4", "scale": 0.8, "print_background": True, "display_header_footer": True,
        "header_template": "<p></p>", "footer_template": FOOTER,
        "margin": {"top": "16mm", "bottom": "18mm", "left": "17mm", "right": "17mm"},
    }  # fmt: skip

    def printed(numbers: dict[str, int], **more: bool) -> bytes:
        source = PDF.with_name("book.html")
        source.write_text(text.replace("{contents}", listing(parts, numbers)), encoding="utf-8")
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(600_000)
        page.goto(source.as_uri())
        page.evaluate(READY)
        found = page.pdf(**options, **more)
        page.close()
        return found

    reader = PdfReader(io.BytesIO(printed({})))
    numbers = {
        name.lstrip("/"): reader.get_destination_page_number(where) + 1
        for name, where in reader.named_destinations.items()
    }
    # Our own outline, since Chromium writes parts of its titles twice.
    writer = PdfWriter(clone_from=io.BytesIO(printed(numbers, tagged=True)))
    for _, pages in parts:
        for page, title in pages:
            writer.add_outline_item(
                title=html.unescape(title), page_number=numbers[anchor(page)] - 1
            )
    writer.write(PDF)
    return PDF


def main() -> None:
    if not (HTML / "index.html").exists():
        sys.exit("the book has not been rendered: run `make book`")
    with sync_playwright() as playwright:
        path = chromium.find_chromium(playwright.chromium.executable_path)
        if path is None:
            sys.exit(chromium.MISSING)
        browser = playwright.chromium.launch(executable_path=path, args=chromium.FLAGS)
        print(f"The book is ready: open {print_pdf(browser)}")
        browser.close()


if __name__ == "__main__":
    main()
