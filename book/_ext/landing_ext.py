"""The live figure and the results of the landing page, drawn from a model and from records.

    <div data-landing="figure"></div>      one digit, its z still, its grid moving
    <div data-landing="study"></div>       a result as a picture: a key of RESULTS

The figure is a picture until book/static/landing.js has replaced it, and stays one without scripts.
"""

from __future__ import annotations

import base64
import csv
import functools
import html
import json
import re
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import torch
from matplotlib.figure import Figure
from sphinx.application import Sphinx

from tvae_core import data, plots
from tvae_core.experiments import results, where
from tvae_core.experiments.study import nll_of
from tvae_core.explorer.export import some_digits
from tvae_core.runtime import NAMES

PLACE = re.compile(r'<div data-landing="(\w+)"></div>')
MODEL, DIGIT = "affine-iwae5", 5
ROOT = Path(__file__).parents[2]
FIGURE = """<figure class="landing-figure" data-canonical="{canonical}" data-poses="{poses}">
<img src="{picture}" width="720" height="360" alt="{alt}">
<div class="moving"><canvas width="280" height="280" role="img" aria-label="{left}"></canvas>
<canvas width="280" height="280" role="img" aria-label="{right}"></canvas></div>
<figcaption><span><strong>What</strong>: drawn once, from <em>z</em>. It does not change.</span>
<span><strong>Where</strong>: the grid, from <em>u</em>, and what it sees.</span>
<button type="button">Play</button></figcaption>
</figure>"""
SAYS = {
    "alt": "Two squares. Left: a digit 5 as the decoder draws it, under a grid. Right: what the "
    "grid sees, the same 5, leaning and shifted.",
    "left": "The digit as the decoder draws it. It stays the same, and a grid moves over it.",
    "right": "What the grid sees: the same digit, which leans, widens and moves with the grid.",
}


# The live figure.


@functools.cache
@torch.no_grad()
def canonical_and_poses() -> tuple[torch.Tensor, torch.Tensor]:
    """A canonical image (28, 28), and poses (P, 2, 3) among those of digits of its class."""
    model = results.load_pretrained(MODEL).model.cpu()
    images = data.binarize_fixed(data.load("mini", "test"))
    latents = model.posterior(images.x).mean
    shown = data.binarize_fixed(some_digits())
    (at,) = (shown.labels == DIGIT).nonzero()[:1, 0].tolist()
    canonical = model.canonical(model.posterior(shown[at : at + 1].x).mean)[0, 0]
    of_class = latents[images.labels == DIGIT]
    u = model.split(of_class)[1]
    axis = torch.linalg.svd(u - u.mean(0))[2]  # by how much the poses of this class vary
    along = (u - u.mean(0)) @ axis.T
    far = [int(i) for k in range(2) for i in (along[:, k].argmax(), along[:, k].argmin())]
    order = [far[0], far[2], far[1], far[3]]
    nearer = u.mean(0) + 0.7 * (u[order] - u.mean(0))  # these four are the outermost
    theta = model.decoder.warp.theta(model.decoder.pose(nearer))
    return canonical, theta.view(-1, 2, 3) + torch.eye(2, 3)


def figure(picture: str) -> str:
    """The element that landing.js brings to life."""
    canonical, maps = canonical_and_poses()
    pixels = (canonical * 255).round().byte().numpy().tobytes()
    numbers = [[round(v, 4) for v in pose.flatten().tolist()] for pose in maps]
    return FIGURE.format(
        canonical=base64.b64encode(pixels).decode(),
        poses=html.escape(json.dumps(numbers)),
        picture=picture,
        **SAYS,
    )


def draw_picture(path: Path) -> None:
    """The first frame of the live figure."""
    canonical, maps = canonical_and_poses()
    model = results.load_pretrained(MODEL).model.cpu()
    grid = model.decoder.warp.grid((maps[0] - torch.eye(2, 3)).flatten())
    out = model.decoder.warp(canonical[None, None], (maps[0] - torch.eye(2, 3)).flatten())
    with matplotlib.rc_context():
        plots.use_style()
        drawn = Figure(figsize=(7.2, 3.6), layout="constrained")
        left, right = drawn.subplots(1, 2)
        plots.on_grid(left, canonical[None], grid, every=9)
        plots.image(right, out[0])
        for ax in (left, right):  # with the room that landing.js leaves
            ax.set(xlim=(-5.4, 32.4), ylim=(32.4, -5.4))
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path, dpi=100)


# Results as pictures.


class Mark(NamedTuple):
    """A value of a row, and how far its error bar reaches."""

    value: float
    low: float
    high: float
    kind: str
    """How it is drawn: "ours", "other" or "best"."""


class Result(NamedTuple):
    title: str
    axis: str
    rows: dict[str, list[Mark]]
    legend: dict[str, str]
    alt: str


def bar(value: float, error: float, kind: str) -> Mark:
    return Mark(value, value - error, value + error, kind)


def over_seeds(name: str, kind: str) -> Mark:
    values = results.over_seeds(name)
    return bar(statistics.mean(values), statistics.stdev(values), kind)


def row_of(table: str, name: str) -> dict[str, str]:
    """A row of a table of the results page, by what its first column holds."""
    with (ROOT / "results" / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return next(row for row in csv.DictReader(file) if next(iter(row.values())) == name)


def read(cell: str, kind: str) -> Mark:
    """A value ± its error."""
    value, error = map(float, cell.split(" ± "))
    return bar(value, error, kind)


def study() -> Result:
    rows = {}
    for decoder, label in NAMES["decoders"].items():
        name = f"{decoder}-iwae5"
        rows[label] = [bar(nll_of(name), 0, "other"), over_seeds(name, "ours")]
    said = ", ".join(
        f"{label} {theirs.value:.2f} there and {ours.value:.2f} here"
        for label, (theirs, ours) in rows.items()
    )
    return Result(
        "A small study, rebuilt with error bars",
        "negative log-likelihood in nats: lower is better",
        rows,
        {"other": "the study, one run", "ours": "this book, twelve runs"},
        f"The negative log-likelihood of three decoders in nats: {said}.",
    )


def trust() -> Result:
    sampled, plain = row_of("gaps", "IWAE, k = 5"), NAMES["decoders"]["plain"]
    rows = {}
    for decoder in ("affine", "tps"):
        label = NAMES["decoders"][decoder]
        annealed = row_of("annealed", f"`{decoder}-iwae5`")["corrected, minus plain"]
        gap = sampled[f"{label} minus {plain}"]
        rows[label] = [read(gap, "other"), read(annealed, "best")]
    said = ", ".join(f"{label} {a.value:+.1f} and {b.value:+.1f}" for label, (a, b) in rows.items())
    return Result(
        "The usual estimate hides half or more of what a warp gains",
        "difference from the plain model in nats: left is better",
        rows,
        {"other": "importance sampling", "best": "by annealing (AIS)"},
        f"What a warp changes, in nats, by importance sampling and by annealing: {said}.",
    )


def second_look() -> Result:
    runs = {
        "no warp": ("plain-iwae5-modern", "other"),
        "warp": ("affine-iwae5-modern", "other"),
        "warp, and an encoder that uses it": ("affine-straight-iwae5-modern", "best"),
    }
    rows = {label: [over_seeds(name, kind)] for label, (name, kind) in runs.items()}
    said = ", ".join(f"{label} {marks[0].value:.2f}" for label, marks in rows.items())
    return Result(
        "A warp pays once the encoder may use it, too",
        "negative log-likelihood in nats: lower is better",
        rows,
        {},
        f"The negative log-likelihood of three models in nats: {said}.",
    )


def worth() -> Result:
    n, models = 2_000, {"affine": "other", "affine-straight": "best"}
    rows, said = {}, []
    for turn in where.TURNS:
        found = [where.worth(n, turn, name) for name in models]
        marks = zip(found, models.values(), strict=True)
        turns = f"turned by up to {turn}°" if turn else "upright"
        rows[turns] = [Mark(w.factor, w.low, w.high, kind) for w, kind in marks if w]
        said.append(f"{turns} " + " and ".join(f"{mark.value:.2f}" for mark in rows[turns]))
    return Result(
        f"With {n:,} images, a warp is worth several times the data",
        "times as many images the plain model needs",
        rows,
        {"other": "warp", "best": "the encoder uses it too"},
        "How many times as many images the plain model needs to be level with a model with a warp, "
        f"and with one whose encoder uses it too. Digits {', '.join(said)}.",
    )


RESULTS = {"study": study, "trust": trust, "look": second_look, "worth": worth}
WIDTH, LEFT, RIGHT, STEP = 360, 14, 14, 46


def picture_of(result: Result) -> str:
    """A result as an SVG in the page, which takes the page's colours."""
    marks = [mark for row in result.rows.values() for mark in row]
    least, most = min(m.low for m in marks), max(m.high for m in marks)
    unit = next(u for u in (0.5, 1, 2, 5) if (most - least) / u <= 8)
    ticks = [unit * k for k in range(int(least // unit), int(-(-most // unit)) + 1)]
    scale = (WIDTH - LEFT - RIGHT) / (ticks[-1] - ticks[0])

    def x(value: float) -> str:
        return f"{LEFT + (value - ticks[0]) * scale:.1f}"

    legend = 22 if result.legend else 0
    bottom = legend + STEP * len(result.rows) + 8
    parts = []
    for i, (kind, label) in enumerate(result.legend.items()):
        parts.append(f'<circle class="{kind}" cx="{20 + 165 * i}" cy="9" r="5"/>')
        parts.append(f'<text x="{30 + 165 * i}" y="13">{html.escape(label)}</text>')
    for tick in ticks:
        parts.append(
            f'<line class="rule" x1="{x(tick)}" x2="{x(tick)}" y1="{legend}" y2="{bottom}"/>'
        )
        parts.append(f'<text class="tick" x="{x(tick)}" y="{bottom + 14}">{tick:g}</text>')
    for i, (label, row) in enumerate(result.rows.items()):
        y = legend + STEP * i + 34
        parts.append(f'<text class="row" x="{LEFT}" y="{y - 17}">{html.escape(label)}</text>')
        for mark in row:
            if mark.low < mark.high:
                low, high = x(mark.low), x(mark.high)
                parts.append(
                    f'<line class="{mark.kind}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
                )
            parts.append(f'<circle class="{mark.kind}" cx="{x(mark.value)}" cy="{y}" r="5"/>')
    parts.append(
        f'<text class="axis" x="{LEFT}" y="{bottom + 32}">{html.escape(result.axis)}</text>'
    )
    said = html.escape(result.alt)
    return (
        f'<figure class="result"><figcaption>{html.escape(result.title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {bottom + 38}" role="img" aria-label="{said}">'
        f"{''.join(parts)}</svg></figure>"
    )


# On the page.


def complete(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the figures where the page has places for them, and the script beside them."""

    def filled(found: re.Match[str]) -> str:
        if found[1] != "figure":
            return picture_of(RESULTS[found[1]]())
        draw_picture(Path(app.outdir) / "_static" / "landing.png")
        return figure(context["pathto"]("_static/landing.png", 1))

    if PLACE.search(context.get("body", "")):
        context["body"] = PLACE.sub(filled, context["body"])
        app.add_js_file("landing.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
