"""Place the explorer on a page.

In MyST Markdown, a directive, with the view as its argument:

    ```{explorer} pose
    :model: affine-iwae5
    :digit: 7
    ```

In a Markdown cell of a notebook, use the element itself. Colab and GitHub ignore the tag and show
the text inside it:

    <tvae-explorer view="pose" model="affine-iwae5" digit="7">
    In the rendered book, a figure stands here that you can move by hand.
    </tvae-explorer>

Either way, the page gets the explorer's script, and the element gets a still picture. Readers see
the picture until the script replaces it, or for good if scripts are off. The scripts that hold the
trained models are written whenever the book is built.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from tvae_core.explorer import export, fallback

logger = logging.getLogger(__name__)
ELEMENT = re.compile(r"<tvae-explorer\b([^>]*)>.*?</tvae-explorer>", re.DOTALL)
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')


class ExplorerDirective(SphinxDirective):
    """Emits an empty element, which `complete` fills."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012
        "model": directives.unchanged_required,
        "digit": directives.nonnegative_int,
        "choose": directives.flag,
        "group": directives.unchanged_required,
        "preload": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        attributes = {"view": self.arguments[0], **self.options}
        written = {name: "" if v is None else str(v) for name, v in attributes.items()}
        tag = "".join(f' {name}="{html.escape(v)}"' for name, v in written.items())
        return [nodes.raw("", f"<tvae-explorer{tag}></tvae-explorer>", format="html")]


def folder(app: Sphinx) -> Path:
    return Path(app.outdir) / "_static" / "explorer"


def write_scripts(app: Sphinx) -> None:
    if app.builder.format == "html":
        export.write_page_files(folder(app))


def complete(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add the still pictures to a page's elements, and the script to the page."""

    def filled(found: re.Match[str]) -> str:
        given = dict(ATTRIBUTE.findall(found[1]))
        view, model = given.get("view", ""), given.get("model", "")
        if view not in export.VIEWS or model not in (*export.SHOWN, export.MOVED):
            logger.warning(
                "%s: the explorer has no view %r of model %r; views: %s; models: %s",
                page, view, model, ", ".join(export.VIEWS), ", ".join(export.SHOWN),
            )  # fmt: skip
            return found[0]
        if "preload" in given:  # its model starts to load with the page
            (script,) = folder(app).glob(f"{model}.*.js")
            source = context["pathto"](f"_static/explorer/{script.name}", 1)
            tags = context.get("metatags", "")
            context["metatags"] = f'{tags}<link rel="preload" as="script" href="{source}">\n'
        picture = fallback.write_picture(view, model, folder(app)).name
        source = context["pathto"](f"_static/explorer/{picture}", 1)
        image = (
            f'<img src="{source}" loading="lazy" alt="{html.escape(fallback.alt(view, model))}">'
        )
        return f"<tvae-explorer{found[1]}>{image}</tvae-explorer>"

    if "<tvae-explorer" in context.get("body", ""):
        context["body"] = ELEMENT.sub(filled, context["body"])
        app.add_js_file("explorer/explorer.js")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("explorer", ExplorerDirective)
    app.connect("builder-inited", write_scripts)
    app.connect("html-page-context", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
