"""A page that shows what came out: one HTML file with its pictures inside, outliers first."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
img { image-rendering: pixelated; max-width: 100%; background: #ccc }
td, th { padding: .2rem .6rem; text-align: left; vertical-align: middle }
td.number { text-align: right; font-variant-numeric: tabular-nums }
td img, .mean img { width: 96px } figure { margin: 0 1rem 1rem 0; display: inline-block }
.problem { background: #fff0e0; padding: .6rem 1rem; border-left: 4px solid #c60 }
"""


class Row(NamedTuple):
    """What the report shows of one image: its name, its pictures by their names, its numbers."""

    name: str
    pictures: Mapping[str, Float[Tensor, "C H W"]]
    numbers: Mapping[str, str]


class Report(NamedTuple):
    """The contents of a report."""

    title: str
    summary: Sequence[str]
    problems: Sequence[str]
    strips: Mapping[str, Float[Tensor, "N C H W"]]  # rows of pictures below each other
    means: Mapping[str, Float[Tensor, "C H W"]]
    histograms: Mapping[str, Float[Tensor, "N"]]
    outliers: Sequence[Row]
    worst: Sequence[Row]


def page(report: Report) -> str:
    """The report as HTML that needs no other file."""
    problems = "".join(f'<p class="problem">{html.escape(text)}</p>' for text in report.problems)
    strips = "".join(_figure(_strip(x), name) for name, x in report.strips.items())
    means = "".join(_figure(x, name) for name, x in report.means.items())
    summary = "<br>".join(html.escape(line) for line in report.summary)
    title = html.escape(report.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<p>{summary}</p>\n{problems}"
        "\n<h2>Outliers</h2>\n<p>The images that the model describes least well. Look at them "
        "first: some may not belong to the set, and some may have a wrong pose.</p>\n"
        f"{_table(report.outliers)}\n<h2>Before and after</h2>\n{strips}"
        f'\n<h2>Means</h2>\n<div class="mean">{means}</div>'
        f"\n<h2>Poses</h2>\n{_histograms(report.histograms)}"
        "\n<h2>Worst reconstructions</h2>\n<p>The largest mean square error.</p>\n"
        f"{_table(report.worst)}\n</body></html>\n"
    )


def png(x: Float[Tensor, "C H W"]) -> bytes:
    """A picture in [0, 1] as a PNG file, gray or in colour."""
    shown = x[0] if len(x) == 1 else x.movedim(0, -1)
    pixels = (shown.clamp(0, 1) * 255).round().byte().numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer := io.BytesIO(), "png")
    return buffer.getvalue()


def _image(x: Float[Tensor, "C H W"], words: str) -> str:
    return _embedded(png(x), words)


def _figure(x: Float[Tensor, "C H W"], words: str) -> str:
    return f"<figure>{_image(x, words)}<figcaption>{html.escape(words)}</figcaption></figure>"


def _embedded(content: bytes, words: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(words)}">'


def _strip(x: Float[Tensor, "N C H W"]) -> Float[Tensor, "C H W"]:
    """Pictures side by side, with two white pixels between them."""
    return torch.cat(torch.nn.functional.pad(x, (1, 1, 0, 0), value=1.0).unbind(0), -1)


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return "<p>None.</p>"
    heads = ["file", *rows[0].pictures, *rows[0].numbers]
    lines = ["<tr>" + "".join(f"<th>{html.escape(head)}</th>" for head in heads) + "</tr>"]
    for row in rows:
        cells = [f"<td>{html.escape(row.name)}</td>"]
        cells += [f"<td>{_image(x, f'{row.name}, {of}')}</td>" for of, x in row.pictures.items()]
        cells += [f'<td class="number">{html.escape(n)}</td>' for n in row.numbers.values()]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _histograms(values: Mapping[str, Float[Tensor, "N"]]) -> str:
    figure = Figure(figsize=(3 * len(values), 2.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for ax, (name, of) in zip(
        figure.subplots(1, len(values), squeeze=False)[0], values.items(), strict=True
    ):
        middle, spread = float(of.mean()), float(of.max() - of.min())
        # A column that is constant up to rounding has no range for bins.
        ends = None if spread > 1e-3 * max(1, abs(middle)) else (middle - 0.5, middle + 0.5)
        ax.hist(of.numpy(), bins=30, range=ends, color="0.3")
        ax.set_xlabel(name)
        ax.set_yticks([])
    canvas.print_png(buffer := io.BytesIO())
    return _embedded(buffer.getvalue(), f"histograms of {', '.join(values)}")
