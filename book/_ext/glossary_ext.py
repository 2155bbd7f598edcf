"""Link each term of the glossary where a page first uses it, and back to the first such page.

The pages and chapters write plain words, so that Colab and GitHub show plain words, too. For the
same reason they cite with plain links to the papers. This marks them, so that book/static/terms.js
can show on a card what the references say.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
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


def place(term: str) -> str:
    """The id of the word that leads to a term."""
    return f"use-of-{nodes.make_id(term)}"


def uses(env: BuildEnvironment) -> dict[str, list[str]]:
    """The terms that each page links."""
    if not hasattr(env, "uses_of_terms"):
        env.uses_of_terms = {}
    return env.uses_of_terms


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
        uses(self.env)[name] = sorted(seen)

    def is_prose(self, text: nodes.Text) -> bool:
        return any(isinstance(up, nodes.paragraph) for up in ancestors(text)) and not any(
            isinstance(up, NOT_IN) for up in ancestors(text)
        )

    def link(self, term: str, words: str) -> addnodes.pending_xref:
        inside = nodes.inline("", words, classes=["std", "std-term"], ids=[place(term)])
        return addnodes.pending_xref(
            "", inside, refdomain="std", reftype="term", reftarget=term, refexplicit=True,
            refdoc=self.env.docname, refwarn=True,
        )  # fmt: skip


def ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    while (node := node.parent) is not None:
        yield node


def merge(app: Sphinx, env: BuildEnvironment, pages: list[str], other: BuildEnvironment) -> None:
    """Take over what a process that read some of the pages found."""
    uses(env).update({page: uses(other)[page] for page in pages if page in uses(other)})


def link_back(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Below each definition, name the first page that links the term, a chapter if there is one."""
    if page != "book/glossary":
        return
    env: Any = app.env
    order = env.toctree_includes[env.config.root_doc]
    order = sorted(order, key=lambda name: not name.startswith("notebooks/"))
    for item in tree.findall(nodes.definition_list_item):
        term = next(item.findall(nodes.term)).astext()
        first = next((p for p in order if term in uses(env).get(p, ())), None)
        if first:
            address = f"{app.builder.get_relative_uri(page, first)}#{place(term)}"
            link = nodes.reference("", env.titles[first].astext(), internal=True, refuri=address)
            said = nodes.paragraph(
                "", "First used in ", link, nodes.Text("."), classes=["first-use"]
            )
            next(item.findall(nodes.definition)).append(said)


def cited() -> set[str]:
    """The addresses of what the references list."""
    bib = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    return {
        ("https://doi.org/" if kind == "doi" else "") + value
        for kind, value in re.findall(r"\b(url|doi) = \{([^}]+)\}", bib)
    }


def mark_citations(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """Give each link to a paper the page that says what it is."""
    if "body" not in context or page == "book/references":
        return
    source = html.escape(context["pathto"]("book/references"))
    for address in cited():
        link = f'href="{html.escape(address)}"'
        context["body"] = context["body"].replace(link, f'{link} data-cites="{source}"')


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(LinkTerms)
    app.connect("html-page-context", mark_citations, priority=400)  # before scripts are chosen
    app.connect("env-merge-info", merge)
    app.connect("doctree-resolved", link_back)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
