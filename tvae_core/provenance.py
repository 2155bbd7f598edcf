"""The hash of the code that a result depends on: all that its functions reach, and nothing else."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import resources
from typing import Any

PACKAGE = "tvae_core"
OUTSIDE = ("runtime", "acceleration")  # files, devices, speed: no number depends on them


def code_hash(*roots: Callable[..., Any]) -> str:
    """Hash of the definitions of tvae_core that `roots` use, and those use, and so on.

    Comments, docstrings and the words of errors do not count; neither does code that `roots` never
    reach, so that a new estimator leaves the hashes of runs with another one as they were.
    """
    source = cache(_definitions)  # each module is read once, as it is now
    found: dict[tuple[str, str], str] = {}
    pending = [place for root in roots for place in _places(root)]
    while pending:
        module, name = pending.pop()
        if (module, name) in found or module in OUTSIDE or name not in source(module):
            continue
        node = source(module)[name]
        if isinstance(node, tuple):  # imported from another module of ours
            pending.append(node)
            continue
        found[module, name] = _canonical(node)
        pending += _used(node, module, source(module))
    text = "\n\n".join(f"# {place}\n{code}" for place, code in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _places(function: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """(module, name) of a function of ours, and of those that it was made with.

    Of a partial it is that of the function inside; the values given are the record's to tell.
    """
    if isinstance(function, partial):
        function = function.func
    package, _, module = function.__module__.partition(".")
    if package != PACKAGE:
        return
    yield module, function.__qualname__.partition(".")[0]
    for cell in getattr(function, "__closure__", None) or ():
        if callable(cell.cell_contents):
            yield from _places(cell.cell_contents)


def _canonical(node: Any) -> str:
    """A node as text, the same from every Python: `ast.dump` and `ast.unparse` differ between them.

    Empty fields stay out, as newer Pythons have more of them, and so does the empty piece that
    Python 3.12 adds to some f-strings.
    """
    if isinstance(node, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
        if isinstance(node, ast.JoinedStr):
            fields["values"] = [p for p in node.values if getattr(p, "value", None) != ""]
        parts = (f"{name}={_canonical(value)}" for name, value in fields.items())
        return f"{type(node).__name__}({', '.join(parts)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_canonical, node))}]"
    return repr(node)


def _definitions(module: str) -> dict[str, Any]:
    """What a module defines or imports from ours, by name: a node, or (module, name)."""
    tree = _Bare().visit(ast.parse((resources.files(PACKAGE) / f"{module}.py").read_text()))
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names[node.name] = node
        elif isinstance(node, ast.Assign):
            names |= {ast.unparse(target): node for target in node.targets}
        elif isinstance(node, ast.AnnAssign):
            names[ast.unparse(node.target)] = node
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            names |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            other = str(node.module).removeprefix(f"{PACKAGE}.")
            names |= {alias.asname or alias.name: (other, alias.name) for alias in node.names}
    return names


def _used(node: ast.AST, module: str, names: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The definitions whose names occur in a node: `name`, or `module.name`."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield module, part.id
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            imported = names.get(part.value.id)
            if isinstance(imported, tuple) and not imported[1]:  # a module of ours
                yield imported[0], part.attr


class _Bare(ast.NodeTransformer):
    """Takes out what no number depends on: docstrings, and what errors say."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.copy_location(ast.Pass(), node)
