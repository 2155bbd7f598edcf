"""Drop inline scripts that a page carries more than once.

sphinx-thebe adds its configuration, which declares constants, a second time; a browser then reports
that the constants have already been declared.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def drop_repeated_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    seen: set[str] = set()
    scripts = []
    for script in context["script_files"]:
        body = getattr(script, "attributes", {}).get("body")
        if body is None or body not in seen:
            scripts.append(script)
        if body is not None:
            seen.add(body)
    context["script_files"] = scripts


def setup(app: Sphinx) -> dict[str, bool]:
    # Late, when the other extensions have added their scripts.
    app.connect("html-page-context", drop_repeated_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
