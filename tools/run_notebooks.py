"""Execute notebooks in place, keeping only what belongs in a committed notebook.

    python tools/run_notebooks.py notebooks/01_vae.ipynb ...

Each notebook runs from top to bottom in a fresh kernel, in the folder it is in, and is saved when
it has finished. A notebook that fails is left unchanged.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    # No timings, because they differ with every run, and no widget state, because it puts megabytes
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
