"""Files that a tool derives from others: it writes them, or with --check compares them."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tvae_core.runtime import write_atomically


def write_or_check(
    description: str,
    contents: Callable[[], Iterable[tuple[Path, str]]],
    root: Path,
    target: str,
    stale: str = "out of date",
) -> None:
    """The command line of such a tool.

    Args:
        description: the tool's docstring.
        contents: each file and the text that it should hold.
        root: the folder that printed paths start from.
        target: what `make` calls the tool.
        stale: said of a file that holds something else.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    check, found = parser.parse_args().check, False
    for path, after in contents():
        if same(path, after):
            continue
        found = True
        print(f"{path.relative_to(root)}: {stale if check else 'written'}")
        if not check:
            write_atomically(path, after.encode())
    if check and found:
        sys.exit(f"run: make {target}")


def same(path: Path, after: str) -> bool:
    """Whether a file holds a text; for a notebook, the same content.

    Editors differ in the white space of a notebook and in the order of its keys.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before and path.suffix == ".ipynb":
        return bool(json.loads(after) == json.loads(before))
    return after == before
