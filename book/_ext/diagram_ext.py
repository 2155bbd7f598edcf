"""Put the diagrams of the chapters into the page itself, where they follow its theme.

A notebook shows its diagram from the repository's address, since Colab has no other files of the
book. For every builder that address becomes the file that it stands for, so that a rendered book
asks nothing from outside; in HTML the image becomes the drawing itself, wide and tall, and
custom.css shows the one that fits and sets its colours.
"""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

FOLDER = "/book/static/diagrams/"


class LocalDiagrams(SphinxTransform):
    """Let an image of a diagram in the repository be the file of this checkout."""

    default_priority = 200

    def apply(self) -> None:
        for image in self.document.findall(nodes.image):
            _, found, name = image["uri"].rpartition(FOLDER)
            if found:
                image["uri"] = FOLDER + name


class InlineDiagrams(SphinxPostTransform):
    """Replace an image of a diagram by its two drawings."""

    default_priority = 5  # before images are collected into the page's folder
    formats = ("html",)

    def run(self) -> None:
        for image in list(self.document.findall(nodes.image)):
            if not f"/{image['uri']}".startswith(FOLDER):
                continue
            wide = Path(self.app.srcdir) / image["uri"].lstrip("/")
            tall = wide.with_name(f"{wide.stem}-tall.svg")
            if not (wide.exists() and tall.exists()):
                raise ExtensionError(f"no {wide.name} or {tall.name}; run: make diagrams")
            drawn = "".join(path.read_text(encoding="utf-8") for path in (wide, tall))
            image.replace_self(nodes.raw("", drawn, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(LocalDiagrams)
    app.add_post_transform(InlineDiagrams)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
