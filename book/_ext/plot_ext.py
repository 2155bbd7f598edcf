"""Put the plots of the chapters into the page itself, in the colours of its theme.

A notebook holds its plots as drawings, black on white (tools/drawings.py). In HTML the drawing
becomes part of the page, and each of its gray values a share of the colour of the page's text: all
of it for black, nothing for white, a little for the gray of a grid. So light lines stand on a dark
page. Colours, images and what lies on an image stay as they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
COLOURS = re.compile("#(0072b2|d55e00)")  # custom.css has the shades for a dark page
GRAY = re.compile(r"#([0-9a-f]{2})\1\1\b")
REFERENCE = re.compile(r"url\(#([^)]+)\)")
KEPT = "on-image"  # what an id begins with, where the drawing keeps its grays
PIXELS_PER_POINT = 110 / 72  # as large as matplotlib would show the picture


def share(gray: re.Match[str]) -> str:
    """A gray value as a share of the colour of the text; the page shows through the rest."""
    percent = round(100 * (1 - int(gray[1], 16) / 255))
    return f"color-mix(in srgb, currentColor {percent}%, transparent)"


def recolour(element: ET.Element) -> None:
    """Let the gray values of an element and those within it follow the page."""
    if element.get("id", "").startswith(KEPT):
        element.set("fill", "#000000")  # what names no colour is black
        return
    if "style" in element.attrib:
        style = GRAY.sub(share, element.get("style"))
        element.set("style", COLOURS.sub(r"var(--plot-\1, #\1)", style))
    for child in element:
        recolour(child)


def rename(root: ET.Element, prefix: str) -> None:
    """Give the ids of a drawing a prefix, since a page holds several drawings.

    matplotlib names an image by its pixels, so equal images share an id: only the first keeps it.
    """
    seen: set[str] = set()
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id" and value in seen:
                del element.attrib[name]
            elif name == "id":
                seen.add(value)
                element.set(name, prefix + value)
            elif name == f"{{{LINK}}}href" and value.startswith("#"):
                element.set("href", f"#{prefix}{value[1:]}")
                del element.attrib[name]
            else:
                element.set(name, REFERENCE.sub(rf"url(#{prefix}\1)", value))


def inline(drawing: str, prefix: str, alt: str) -> str:
    """A drawing by matplotlib as an element of a page."""
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", LINK)
    root = ET.fromstring(drawing)
    for unwanted in ("metadata", "defs/style/.."):  # its style would be that of the whole page
        for found in root.findall(re.sub(r"(\w+)", rf"{{{SVG}}}\1", unwanted)):
            root.remove(found)
    recolour(root)
    rename(root, prefix)
    width, height = (float(root.get(side)[:-2]) * PIXELS_PER_POINT for side in ("width", "height"))
    root.attrib = {
        "class": "plot", "viewBox": root.get("viewBox"), "role": "img", "aria-label": alt,
        "width": f"{width:.0f}", "height": f"{height:.0f}",
    }  # fmt: skip
    return re.sub(r"\s*\n\s*", " ", ET.tostring(root, encoding="unicode"))


class InlinePlots(SphinxPostTransform):
    """Replace the drawings that cells put out."""

    default_priority = 5  # before images are collected into the page's folder
    formats = ("html",)

    def run(self) -> None:
        source = Path(self.app.srcdir)
        for number, image in enumerate(list(self.document.findall(nodes.image))):
            path = source / image["uri"]
            if path.suffix == ".svg" and "jupyter_execute" in path.parts:
                drawing = path.read_text(encoding="utf-8")
                drawn = inline(drawing, f"plot-{number}-", image.get("alt", ""))
                image.replace_self(nodes.raw("", drawn, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(InlinePlots)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
