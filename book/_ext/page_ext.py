"""What a page tells others of itself, and how much it weighs.

Description, social picture and canonical address in its head; a sitemap and a page for lost readers
beside the pages; only the icons that the theme shows, and MathJax only where there is maths.
"""

from __future__ import annotations

import datetime
import html
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

SCRIPTS = {  # which the pages with these words get
    "elements.js": '<strong>Predict|class="tvae-questions"|data-answered-in=',  # for both below
    "guess.js": "<strong>Predict",
    "match.js": 'class="tvae-question" [^>]*data-kind="match"',  # questions.js, below, calls it
    "questions.js": 'class="tvae-questions"|data-answered-in=',
    "terms.js": r"glossary\.html#term-|data-cites=",
}
MATHS = r'class="[^"]*\bmath\b|\\\(|\\\['
# The theme brings 2,000 icons, half a megabyte, of which it shows these.
ICONS = (
    *("angle-left", "angle-right", "arrow-up", "arrows-rotate", "bars", "list", "magnifying-glass"),
    *("sun", "moon", "circle-half-stroke", "github", "download", "expand", "file", "file-pdf"),
    *("lightbulb", "rocket", "xmark", "chevron-down"),
)
# A second title, without its number, and a list of sections, which the theme shows on paper. The
# search would quote them.
PRINTED_CONTENTS = re.compile(r'(?s)<div id="jb-print-docs-body".*?(?=<div id="searchbox">)')
SVG = "http://www.w3.org/2000/svg"
ROOT_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><meta name="description" content="{said}">
<meta property="og:title" content="{title}"><meta property="og:description" content="{said}">
<meta property="og:image" content="{base}_static/preview.png">
<link rel="canonical" href="{base}{first}">
<meta http-equiv="Refresh" content="0; url={first}">
</head><body><h1>{title}</h1><p>{said}</p>
<p><a href="{first}">To the first page</a></p></body></html>
"""
LOST = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Page not found — {title}</title><meta name="robots" content="noindex">
<link rel="icon" href="data:image/svg+xml,{icon}">
<style>:root {{ color-scheme: light dark; background: Canvas; color: CanvasText; }}
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto; }}
main {{ padding: 0 1rem; }}</style>
</head><body><main><h1>This page is not here</h1>
<p>It may have moved to another place in the book.</p>
<ul><li><a href="{base}book/welcome.html">The first page of {title}</a></li>
<li><a href="{base}search.html">Search the book</a></li>
<li><a href="{base}book/map.html">The map of the book</a></li></ul></main></body></html>
"""


def configure(app: Sphinx, config: Config) -> None:
    """Set what follows from the address and the release of the repository, in _config.yml."""
    theme = config.html_theme_options
    owner, name = theme["repository_url"].rstrip("/").split("/")[-2:]
    config.html_baseurl = f"https://{owner}.github.io/{name}/"
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    today = (
        datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).date()
        if seconds
        else datetime.date.today()
    )
    theme["extra_footer"] = f"<div>Release {theme['repository_branch']}, rendered {today}.</div>"


def description(doctree: nodes.document) -> str:
    """The first paragraph of a page that is more than a line of links, up to 200 characters."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = re.sub(r"\s+", " ", paragraph.astext())
        links = sum(len(link.astext()) for link in paragraph.findall(nodes.reference))
        if len(text) > 60 and links < len(text) / 2 and not any(paragraph.findall(nodes.math)):
            return text if len(text) <= 200 else text[:199].rsplit(" ", 1)[0] + " …"
    return ""


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Tell search engines, and those who share a link, what a page is."""
    body, base = context.get("body", ""), app.config.html_baseurl
    if page == app.config.root_doc:  # its own title is that of the book
        context["title"] = "Transformer VAEs and tighter bounds, built by hand"
    if doctree is not None and (said := description(doctree)):
        title = re.sub("<[^>]*>", "", context["title"])
        tags = {"og:title": title, "og:description": said, "og:type": "website"}
        tags |= {"og:site_name": app.config.html_title, "og:url": f"{base}{page}.html"}
        tags |= {"og:image": f"{base}_static/preview.png", "twitter:card": "summary_large_image"}
        meta = [f'<meta name="description" content="{html.escape(said)}">']
        meta += [f'<meta property="{k}" content="{html.escape(v)}">' for k, v in tags.items()]
        context["metatags"] = "\n".join([context.get("metatags", ""), *meta])
    for script, words in SCRIPTS.items():
        if re.search(words, body):
            app.add_js_file(script, loading_method="defer")


def drop_maths(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Leave MathJax out of pages without a formula."""
    if not re.search(MATHS, context.get("body", "")):
        context["script_files"] = [
            script
            for script in context["script_files"]
            if "mathjax" not in str(getattr(script, "filename", "")).lower()
            and "MathJax" not in str(getattr(script, "attributes", {}).get("body", ""))
        ]


def icons(script: str) -> str:
    """A style sheet with the ICONS, cut out of Font Awesome's script (CC BY 4.0)."""
    rules = [
        "/* Icons of Font Awesome Free 6, https://fontawesome.com, CC BY 4.0. */",
        ":is(.fa-solid, .fas, .fab, .fa-brands)::before { content: ''; display: inline-block; "
        "width: 1em; height: 1em; vertical-align: -0.125em; background: currentColor; "
        "mask: var(--icon) center / contain no-repeat; }",
        ".fa-lg { font-size: 1.25em; line-height: 0.05em; vertical-align: -0.075em; }",
    ]
    for name in ICONS:
        found = re.search(
            rf'(?<![\w-])"?{name}"?:\[(\d+),(\d+),\[[^]]*\],"\w+","([^"]+)"\]', script
        )
        if not found:
            raise ValueError(f"Font Awesome has no icon {name!r}: see ICONS in page_ext.py")
        width, height, path = found.groups()
        svg = f"<svg xmlns='{SVG}' viewBox='0 0 {width} {height}'><path d='{path}'/></svg>"
        address = quote(svg, safe=" =:/'")
        rules.append(f'.fa-{name} {{ --icon: url("data:image/svg+xml,{address}"); }}')
    return "\n".join(rules) + "\n"


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Write sitemap, front door, page for lost readers and icons; drop what pages need not."""
    if exception or app.builder.format != "html":
        return
    out, base = Path(app.outdir), app.config.html_baseurl
    pages = sorted(app.env.found_docs)
    script = out / "_static" / "scripts" / "fontawesome.js"
    (out / "_static" / "icons.css").write_text(
        icons(script.read_text(encoding="utf-8")), encoding="utf-8"
    )
    urls = "".join(f"<url><loc>{base}{page}.html</loc></url>" for page in pages)
    (out / "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{urls}</urlset>\n',
        encoding="utf-8",
    )
    (out / "robots.txt").write_text(f"Sitemap: {base}sitemap.xml\n", encoding="utf-8")
    first = f"{app.config.root_doc}.html"
    said = html.escape(description(app.env.get_doctree(app.config.root_doc)))
    (out / "index.html").write_text(
        ROOT_PAGE.format(
            title=html.escape(app.config.html_title), said=said, base=base, first=first
        ),
        encoding="utf-8",
    )
    icon = quote((out / "_static" / "favicon.svg").read_text(encoding="utf-8"), safe="")
    lost = LOST.format(title=html.escape(app.config.html_title), base=base, icon=icon)
    (out / "404.html").write_text(lost, encoding="utf-8")
    theme = out / "_static" / "styles" / "pydata-sphinx-theme.css"
    rules = re.sub(r"@font-face\{[^}]*fontawesome[^}]*\}", "", theme.read_text(encoding="utf-8"))
    theme.write_text(rules, encoding="utf-8")
    for page in [*pages, "search", "genindex"]:
        path = out / f"{page}.html"
        if path.exists():
            text = path.read_text(encoding="utf-8")
            slim = re.sub(r"<script[^>]*/scripts/fontawesome\.js[^>]*></script>", "", text)
            slim = PRINTED_CONTENTS.sub("", slim)
            if slim != text:
                path.write_text(slim, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_css_file("icons.css")
    app.connect("config-inited", configure, priority=900)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", drop_maths, priority=900)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
