"""Link each term of the glossary where a page first uses it.

The pages and chapters write plain words, so that Colab and GitHub show plain words, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).parents[2]
# In these, words are names, links or figures already.
NOT_IN = (
    *(nodes.title, nodes.reference, nodes.literal, nodes.math, nodes.caption, nodes.Admonition),
    *(nodes.literal_block, nodes.table, nodes.raw, nodes.term, nodes.definition_list),
    addnodes.pending_xref,
)
# Pages that explain the words themselves, or have no room for links.
WITHOUT = ("book/glossary", "book/notation", "book/welcome", "book/map", "book/references")


def terms(glossary: str) -> list[str]:
    """The terms of the page book/glossary.md, the longest first."""
    (inner,) = re.findall(r"```\{glossary\}\n(.*?)```", glossary, re.DOTALL)
    return sorted(re.findall(r"(?m)^(\S.*)$", inner), key=len, reverse=True)


def pattern(known: list[str]) -> re.Pattern[str]:
    """Finds terms as whole words, with a plural s; words in any case, abbreviations as they are."""

    def of(term: str) -> str:
        words = re.escape(term).replace(r"\ ", r"\s+")
        return words if re.search("[A-Z]{2}", term) else f"(?i:{words})"

    return re.compile(rf"(?<![\w-])({'|'.join(map(of, known))})(s?)(?![\w-])")


class LinkTerms(SphinxTransform):
    """Runs before references are resolved, once for each page."""

    default_priority = 600

    def apply(self) -> None:
        name = self.env.docname
        if name in WITHOUT:
            return
        known = terms((ROOT / "book" / "glossary.md").read_text(encoding="utf-8"))
        by_lower, words, seen = {t.lower(): t for t in known}, pattern(known), set()
        for text in [*self.document.findall(nodes.Text)]:
            if not self.is_prose(text):
                continue
            parts: list[nodes.Node] = []
            end = 0
            for found in words.finditer(text):
                term = by_lower.get(re.sub(r"\s+", " ", found[1]).lower())
                if term is None or term in seen:
                    continue
                seen.add(term)
                parts += [nodes.Text(text[end : found.start()]), self.link(term, found[0])]
                end = found.end()
            if parts:
                text.parent.replace(text, [*parts, nodes.Text(text[end:])])

    def is_prose(self, text: nodes.Text) -> bool:
        return any(isinstance(up, nodes.paragraph) for up in ancestors(text)) and not any(
            isinstance(up, NOT_IN) for up in ancestors(text)
        )

    def link(self, term: str, words: str) -> addnodes.pending_xref:
        inside = nodes.inline("", words, classes=["std", "std-term"])
        return addnodes.pending_xref(
            "", inside, refdomain="std", reftype="term", reftarget=term, refexplicit=True,
            refdoc=self.env.docname, refwarn=True,
        )  # fmt: skip


def ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    while (node := node.parent) is not None:
        yield node


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(LinkTerms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
