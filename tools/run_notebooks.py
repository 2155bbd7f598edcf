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

from tvae_core.runtime import write_atomically


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    # No timings, because they differ with every run, and no widget state, because it puts megabytes
    # of scripts on the rendered page.
    NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.extensions=drawings"],
    ).execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}

    write_atomically(path, (nbformat.writes(notebook) + "\n").encode())


def merged(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs, with text that a cell printed in a row as one: how it is split is chance."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = kept[-1] if kept else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            kept.append(output)
    return kept


if __name__ == "__main__":
    for name in sys.argv[1:]:
        start = time.monotonic()
        print(f"{name} ...", end=" ", flush=True)
        execute(Path(name))
        print(f"{time.monotonic() - start:.0f} s")
