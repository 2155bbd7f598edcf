"""ES modules joined into one script, by a bundler for the small part of JavaScript used here.

The explorer must run from a folder on disk, where a page can load scripts but not modules, and in
anywidget, which takes a single module. Joined, the modules share one scope.
"""

from __future__ import annotations

import re
from pathlib import Path

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.]+)";\n', re.M)
# At the left margin, a declaration is at the top level: the sources are formatted that way.
DECLARATION = re.compile(
    r"^(export )?(?:async )?(?:const|let|var|class|function\*?) (\w+|[\[{][^=]*[\]}])", re.M
)
LEFT_OVER = re.compile(r"^(?:import\b.*|export (?!default ).*)", re.M)


def join(folder: Path, entry: str) -> str:
    """The module `entry` and everything that it imports, each module after those it imports.

    A default export remains in place; all other imports and exports are removed.

    Raises:
        ValueError: modules that import each other in a circle, define the same top-level name, or
            import a name that is not exported; imports or exports in a form not supported here.
    """
    sources: dict[str, str] = {}
    _collect(folder, entry, sources, ())
    exported: dict[str, set[str]] = {}
    defined_in: dict[str, str] = {}
    for module, source in sources.items():
        exported[module] = set()
        for export, pattern in DECLARATION.findall(source):
            for name in re.findall(r"\w+", pattern):
                if name in defined_in:
                    raise ValueError(
                        f"{defined_in[name]} and {module} both define {name!r} at the top level; "
                        "joined into one script they share a scope, so rename one of them"
                    )
                defined_in[name] = module
                if export:
                    exported[module].add(name)
        for names, imported in IMPORT.findall(source):
            missing = {name.strip() for name in names.split(",")} - exported[imported] - {""}
            if missing:
                raise ValueError(
                    f"{module} imports {', '.join(sorted(missing))}, not exported by {imported}"
                )
    return "\n".join(_without_imports_and_exports(name, text) for name, text in sources.items())


def _collect(
    folder: Path, module: str, sources: dict[str, str], importers: tuple[str, ...]
) -> None:
    """Add the sources of a module's imports, then its own, leaving out those already there."""
    if module in importers:
        raise ValueError(f"a circle of imports: {' -> '.join([*importers, module])}")
    if module in sources:
        return
    source = (folder / module).read_text(encoding="utf-8")
    for _, imported in IMPORT.findall(source):
        _collect(folder, imported, sources, (*importers, module))
    sources[module] = source


def _without_imports_and_exports(module: str, source: str) -> str:
    joined = re.sub(DECLARATION, lambda found: found[0].removeprefix("export "), source)
    joined = re.sub(IMPORT, "", joined)
    if left_over := LEFT_OVER.search(joined):
        raise ValueError(
            f"{module}: cannot join {left_over[0]!r}; write imports as "
            'import { a, b } from "./module.mjs"; and put export in front of a declaration'
        )
    return joined
