"""Mend what the theme and its extensions put on the pages."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

# From the disk a browser may not fetch the pages that search would like to quote from: list them
# without a quotation, rather than with an error each.
SEARCH_WITHOUT_FETCH = (
    "if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;"
)


def drop_repeated_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Drop inline scripts that a page carries more than once.

    sphinx-thebe adds its configuration, which declares constants, a second time; a browser then
    reports that the constants have already been declared.
    """
    seen: set[str] = set()
    scripts = []
    for script in context["script_files"]:
        body = getattr(script, "attributes", {}).get("body")
        if body is None or body not in seen:
            scripts.append(script)
        if body is not None:
            seen.add(body)
    context["script_files"] = scripts


def name_the_items_of_the_bibliography(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the entries the role that the list around them asks for.

    docutils writes one that was taken out of the standard, so a screen reader finds an empty list.
    """
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


# Where a browser blocks storage, even reading `localStorage` throws, and the theme's buttons and
# the search stop at the first use. Give them a storage that lasts as long as the page instead.
STORAGE = """<script>
for (const name of ["localStorage", "sessionStorage"]) {
  try { window[name].getItem(""); } catch {
    const kept = new Map();
    Object.defineProperty(window, name, { value: {
      getItem: (key) => kept.get(String(key)) ?? null,
      setItem: (key, value) => kept.set(String(key), String(value)),
      removeItem: (key) => kept.delete(String(key)),
    } });
  }
}
</script>"""


def store_without_storage(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put STORAGE into the head of a page, before the theme's first script."""
    context["metatags"] = STORAGE + context.get("metatags", "")


class NameFolds(SphinxTransform):
    """Say what a folded cell holds, where its author did not."""

    default_priority = 700

    def apply(self) -> None:
        for cell in self.document.findall(nodes.container):
            if "{type}" in cell.get("prompt_show", ""):
                what = self.holds(cell)
                cell["prompt_show"], cell["prompt_hide"] = f"Show {what}", f"Hide {what}"

    def holds(self, cell: nodes.container) -> str:
        if cell["hide_mode"] == "output":
            return "the output"
        picture = any(cell.findall(nodes.image))
        if cell["hide_mode"] == "all":
            return "the code and its figure" if picture else "the code and its output"
        imports = cell.astext().lstrip().startswith(("import ", "from "))
        return "the plotting code" if picture else "the imports" if imports else "the code"


class MarkTables(SphinxTransform):
    """Give tables and their cells the classes that the style sheet needs on a phone.

    A table of symbols is shown there row by row as paragraphs, so the cells right of the meaning
    say what they are: `unit`, `shape` or `chapter`. A table of numbers scrolls: words may wrap, and
    the column with the name of the row stays in sight.
    """

    default_priority = 700

    def apply(self) -> None:
        for table in self.document.findall(nodes.table):
            rows = [[*row.findall(nodes.entry)] for row in table.findall(nodes.row)]
            heads = [entry.astext() for entry in rows[0]]
            if heads[0] == "symbol":
                table["classes"].append("symbols")
                for row in rows[1:]:
                    for head, entry in zip(heads, row, strict=True):
                        if head not in ("symbol", "in the code", "meaning") and entry.astext():
                            entry["classes"].append(head)
                continue
            in_words = [
                all(re.fullmatch(r"\D+", row[column].astext()) for row in rows[1:])
                for column in range(len(heads))
            ]
            # Where the second column has names too, it is what tells the rows apart.
            name = int("numbers" in table["classes"] and in_words[0] and in_words[1])
            for row in rows:
                row[name]["classes"].append("row-name")
            for row in rows[1:]:
                for entry in row:
                    if re.fullmatch(r"\D+", entry.astext()):
                        entry["classes"].append("words")


class JoinPunctuation(SphinxTransform):
    """Keep a formula and the punctuation that touches it in one line.

    A browser may break a line on either side of a formula, and would begin one with a full stop.
    """

    default_priority = 710

    def apply(self) -> None:
        for formula in [*self.document.findall(nodes.math)]:
            parent = formula.parent
            at = parent.index(formula)
            before, after = (
                parent[i] if 0 <= i < len(parent) and isinstance(parent[i], nodes.Text) else ""
                for i in (at - 1, at + 1)
            )
            opening = before[len(before.rstrip("([")) :]
            closing = after[: len(after) - len(after.lstrip(".,;:?!)]"))]
            if not opening + closing:
                continue
            joined = nodes.inline("", classes=["joined"])
            if closing:
                parent[at + 1] = nodes.Text(after[len(closing) :])
            if opening:
                parent[at - 1] = nodes.Text(before[: len(before) - len(opening)])
            parent[at] = joined
            joined += [nodes.Text(opening), formula, nodes.Text(closing)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_js_file(None, body=SEARCH_WITHOUT_FETCH)
    app.add_transform(NameFolds)
    app.add_transform(MarkTables)
    app.add_transform(JoinPunctuation)
    app.connect("html-page-context", name_the_items_of_the_bibliography)
    app.connect("html-page-context", store_without_storage)
    # Late, when the other extensions have added their scripts.
    app.connect("html-page-context", drop_repeated_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
