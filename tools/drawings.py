"""Show a notebook's figures as drawings (SVG), whose colours the book's pages can change.

An extension of IPython, which tools/run_notebooks.py loads into the kernel. Without it, in Colab
for example, figures are pictures (PNG).
"""

import io
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

CROWD = 300
"""With more dots than this, a drawing would take longer to load than a picture of the dots."""


def dots(artist: Artist) -> int:
    """How many dots an artist has that no line joins."""
    if isinstance(artist, PathCollection):
        return len(artist.get_offsets())
    loose = isinstance(artist, Line2D) and artist.get_linestyle() == "None"
    return len(artist.get_xdata()) if loose else 0


def drawing(figure: Figure) -> str:
    """A figure as SVG, on one line, the same each time.

    The ids of what lies upon an image begin with "on-image", since it should keep its colours, as
    the image does. Crowds of dots become pictures.
    """
    for at, ax in enumerate(figure.axes):
        for number, artist in enumerate([*ax.lines, *ax.collections, *ax.texts, *ax.patches]):
            if dots(artist) > CROWD:
                artist.set_rasterized(True)
            if ax.images:
                artist.set_gid(f"on-image-{at}-{number}")
    file, undated = io.StringIO(), {"Date": None, "Creator": None}
    with mpl.rc_context({"svg.hashsalt": "tvae"}):
        figure.savefig(file, format="svg", bbox_inches="tight", metadata=undated)
    return " ".join(file.getvalue().split())


def load_ipython_extension(shell: Any) -> None:
    plt.switch_backend(plt.get_backend())  # loads it, which would undo the next lines later
    formatters = shell.display_formatter.formatters
    formatters["image/png"].pop(Figure, None)
    formatters["image/svg+xml"].for_type(Figure, drawing)
