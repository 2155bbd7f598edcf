"""Write what depends on the repository's address and the release, which _config.yml defines.

    python tools/setup_cells.py            # write
    python tools/setup_cells.py --check    # change nothing; exit with 1 if something is out of date

Each notebook gets its first cell, which installs the release of tvae_core if none is there (as in
Colab), and, in its second cell, a link below the title that opens the notebook of that release in
Colab. README.md gets its badges, between <!-- badges --> and <!-- /badges -->.
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import nbformat
import yaml
from derived import write_or_check

ROOT = Path(__file__).resolve().parents[1]

SETUP = """\
# Colab lacks tvae_core, the book's module: this installs the release that the page belongs to.
import importlib.util
import os
import re
import subprocess
import sys

url = os.environ.get("TVAE_CORE_URL", "git+{url}@{tag}")
if importlib.util.find_spec("tvae_core") is None:
    pip = [sys.executable, "-m", "pip", "install", "-q", url]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode and re.search("(?i)resolve host|connect|timed out", done.stderr):
        raise RuntimeError(f"no connection to {{url}}: check the network, then run this cell again")
    if done.returncode:
        why = re.findall("(?:fatal|error|ERROR): (?!subprocess)(.*)|$", done.stderr)[0]
        raise RuntimeError(f"cannot install {{url}} ({{why}}): TVAE_CORE_URL can name another")

import torch

import tvae_core

if tvae_core.__version__ != "{version}":
    raise RuntimeError(
        f"this page needs tvae_core {version}, but {{tvae_core.__version__}} is installed: run "
        f"`%pip install {{url}}`, restart the session, and run this cell again"
    )
if "google.colab" in sys.modules and not torch.cuda.is_available():
    print(
        "No GPU is selected; to select one: Runtime > Change runtime type.\\n"
        {time}
    )"""

LINK = "[Open in Colab]"

BADGES = """\
<!-- badges -->
[![book]({url}/actions/workflows/book.yml/badge.svg)]({url}/actions/workflows/book.yml)
[![Read the book](https://img.shields.io/badge/read-the_book-blue)]({pages})
[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}/01_vae.ipynb)
<!-- /badges -->"""


def addresses() -> dict[str, str]:
    """The repository and its release, its notebooks in Colab, and the book on GitHub Pages."""
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    url, tag = repository["url"].rstrip("/"), repository["branch"]
    owner, name = url.split("/")[-2:]
    return {
        "url": url,
        "tag": tag,
        "version": tag.removeprefix("v"),
        "colab": f"https://colab.research.google.com/github/{owner}/{name}/blob/{tag}/notebooks",
        "pages": f"https://{owner}.github.io/{name}/",
    }


def with_setup(text: str, name: str, to: dict[str, str]) -> str:
    """The notebook `text` with the setup cell first and the link to Colab below the title."""
    notebook = nbformat.reads(text, as_version=4)
    cells = notebook.cells
    # The variable identifies the cell: its id may change when a notebook passes through Colab.
    if not (cells and cells[0].cell_type == "code" and "TVAE_CORE_URL" in cells[0].source):
        cells.insert(0, nbformat.v4.new_code_cell(id="setup"))
    if len(cells) < 2 or cells[1].cell_type != "markdown" or not cells[1].source.startswith("# "):
        sys.exit(f"{name}: the cell after the setup cell must be Markdown and begin with '# '")
    cells[0].source = SETUP.format(**to, time=time_to_run(cells[1].source, name))
    cells[0].metadata = {"tags": ["remove-cell"]}
    cells[0].outputs = []

    title, *rest = cells[1].source.split("\n")
    rest = [line for line in rest if not line.startswith(LINK)]
    cells[1].source = "\n".join([title, f"{LINK}({to['colab']}/{name})", *rest])
    return nbformat.writes(notebook) + "\n"


def time_to_run(markdown: str, name: str) -> str:
    """What a chapter says of its time, except the time to read it: strings for a call of print."""
    found = re.search(r"\*\*Time:\*\* \d+ minutes of reading\.(.*?)(\n\n|$)", markdown, re.DOTALL)
    if not found:
        sys.exit(f"{name}: the cell of the title must contain '**Time:** ... minutes of reading.'")
    first, *rest = textwrap.wrap(" ".join(found[1].split()), 80)
    return "\n        ".join(json.dumps(line) for line in [first, *(f" {line}" for line in rest)])


def with_badges(text: str, to: dict[str, str]) -> str:
    """The `text` of README.md with the badges between the two markers."""
    badges, found = BADGES.format(**to), re.compile("<!-- badges -->.*<!-- /badges -->", re.DOTALL)
    if not found.search(text):
        sys.exit("README.md: the markers <!-- badges --> and <!-- /badges --> are missing")
    return found.sub(lambda _: badges, text)


def contents() -> Iterator[tuple[Path, str]]:
    """README.md and each notebook, and the text that it should hold."""
    to = addresses()
    for path in [ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.ipynb"))]:
        before = path.read_text(encoding="utf-8")
        yield (
            path,
            with_badges(before, to) if path.suffix == ".md" else with_setup(before, path.name, to),
        )


def main() -> None:
    write_or_check(__doc__, contents, ROOT, "setup-cells", "differs from _config.yml")


if __name__ == "__main__":
    main()
