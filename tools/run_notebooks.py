"""Execute notebooks in place, keeping only what belongs into a committed notebook.

    python tools/run_notebooks.py notebooks/01_vae.ipynb ...

Each runs top to bottom in a fresh kernel, in its own folder, and is written back when it is done;
one that fails is left as it was.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    # No timings and no widget state: the first differ every run, and the second puts megabytes
    # of scripts on the rendered page.
    NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}

    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(nbformat.writes(notebook) + "\n")
    os.replace(unfinished, path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        start = time.monotonic()
        print(f"{name} ...", end=" ", flush=True)
        execute(Path(name))
        print(f"{time.monotonic() - start:.0f} s")
