"""Write the diagrams of the chapters: one SVG for each, and a cell that shows it.

    python tools/diagrams.py            # write
    python tools/diagrams.py --check    # change nothing; exit with 1 if something is out of date

tools/diagrams.yaml says what each chapter's diagram shows, tools/diagram_pictures.json holds the
small pictures in it. book/static/diagrams/NN.svg is drawn from left to right; NN-tall.svg, for
phones, is the same from top to bottom. The cell that follows a notebook's title shows NN.svg from
the repository, as Colab has no other files of the book; in the rendered book,
book/_ext/diagram_ext.py puts both drawings into the page itself, where they follow its theme.
"""

import json
import re
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import yaml
from derived import write_or_check

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tools" / "diagrams.yaml"
PICTURES = ROOT / "tools" / "diagram_pictures.json"
FOLDER = ROOT / "book" / "static" / "diagrams"

FONT, LINE, PAD, PICTURE = 15, 19, 7, 58
GAP = {"wide": (26, 20), "tall": (12, 26)}  # between columns, between rows
BADGE, MARGIN, STACK = 9, 6, 4

# Other names than those of the theme, which hides an empty .badge and lays out a .card. On a page
# custom.css sets the five colours, for the theme that the reader has chosen.
STYLE = """
.diagram { --paper: #ffffff; --ink: #222222; --line: #7a7a7a; --new: #b34700; --tint: #fdeadd;
  font: 15px "Helvetica Neue", Arial, sans-serif }
@media (prefers-color-scheme: dark) {
  .diagram { --paper: #16181c; --ink: #e6e6e6; --line: #8f8f8f; --new: #ff9d5c; --tint: #3a2516 }
}
.diagram text { fill: var(--ink); text-anchor: middle }
.diagram .symbol { font-family: "STIX Two Text", "Times New Roman", serif; font-size: 17px }
.diagram i, .diagram .it { font-style: italic }
.diagram .script { font-size: 12px }
.diagram .sheet { fill: var(--paper) }
.diagram .node { fill: none; stroke: var(--line) }
.diagram .edge { fill: none; stroke: var(--line); stroke-width: 1.5 }
.diagram .tip { fill: var(--line) }
.diagram .frame { fill: none; stroke: var(--line); stroke-width: 0.7 }
.diagram .pixels { fill: var(--ink); shape-rendering: crispEdges }
.diagram .grid { fill: none; stroke: var(--line); stroke-width: 0.6 }
.diagram .new .node { fill: var(--tint); stroke: var(--new); stroke-width: 2 }
.diagram .new .grid { stroke: var(--new); stroke-width: 0.8 }
.diagram .new.edge { stroke: var(--new); stroke-width: 2.5 }
.diagram .new.tip, .diagram .mark { fill: var(--new) }
.diagram .mark-text { fill: var(--paper); font-size: 12px; font-weight: bold }
"""

SCRIPT_L, MINUS = "\N{SCRIPT CAPITAL L}", "\N{MINUS SIGN}"
COMMANDS = {
    "theta": "θ",
    "phi": "φ",
    "pi": "π",
    "beta": "β",
    "mid": " | ",
    "log": "log ",
    "mathcal L": SCRIPT_L,
    "tilde x": "x̃",
    "dots": "…",
}
NARROW, WIDE = set("ijlftr.,:;|()[]'! "), set("mwMW…" + SCRIPT_L)


class Box(NamedTuple):
    """Where a node lies: its centre, its width and its height."""

    x: float
    y: float
    width: float
    height: float


class Drawing(NamedTuple):
    """A diagram that has been laid out."""

    width: float
    height: float
    boxes: dict[str, Box]
    curves: list[tuple[list[tuple[float, float]], dict[str, Any]]]  # four points each, and the edge


def pieces(latex: str) -> list[tuple[str, str, int]]:
    """Formula as (text, "italic" or "upright", level): level -1 is a subscript, 1 a superscript."""
    found, level, depth = [], 0, False
    pattern = r"\\(mathcal L|tilde x|[a-z]+)|([_^])(\{?)|(\})|(, )|(\s+)|(.)"
    for command, script, brace, close, comma, space, char in re.findall(pattern, latex):
        if script:
            level, depth = (-1 if script == "_" else 1), bool(brace)
            continue
        if close:
            level, depth = 0, False
        if close or space:
            continue
        text = COMMANDS[command] if command else comma or char.replace("-", MINUS)
        text = f" {text} " if text in "=+" else text
        italic = command not in ("log", "mid") and text[0].isalpha() and text != SCRIPT_L
        found.append((text, "italic" if italic else "upright", level))
        if not depth:
            level = 0
    return found


def spans(line: str) -> list[tuple[str, str, int, bool]]:
    """A line of a node as (text, shape, level, is_math)."""
    found = []
    for i, part in enumerate(line.split("$")):
        if i % 2:
            found += [(*piece, True) for piece in pieces(part)]
        elif part:
            found.append((part, "upright", 0, False))
    return found


def text_width(line: str) -> float:
    """At most this wide, in the fonts of STYLE."""
    total = 0.0
    for text, _, level, math in spans(line):
        size = 12 if level else 17 if math else FONT
        for char in text:
            if char != "\u0303":  # the tilde stands above a letter
                share = 0.36 if char in NARROW else 0.9 if char in WIDE else 0.6
                total += size * share
    return total


def size_of(node: dict[str, Any]) -> tuple[float, float]:
    """The width and height of a node's box."""
    width = max([text_width(line) for line in node["text"]] + [PICTURE * bool(node.get("picture"))])
    height = LINE * len(node["text"]) + (PICTURE + 4) * bool(node.get("picture"))
    numbers = node.get("badges", [])
    width = max(width, 2.2 * BADGE * len(numbers))
    height += (2 * BADGE + 4) * bool(numbers)
    sheets = 2 * STACK * bool(node.get("stack"))
    return width + 2 * PAD + sheets, height + 2 * PAD - 2 + sheets


def centres(extents: dict[float, float], gap: float) -> dict[float, float]:
    """The centre of each column (or row) from how wide its nodes are; halves lie in the middle."""
    whole, edge = {}, MARGIN
    for i in range(int(max(extents)) + 1 + (max(extents) % 1 > 0)):
        extent = extents.get(i, 0)
        whole[i] = edge + extent / 2
        edge += extent + gap
    return {at: (whole[int(at)] + whole[int(at + 0.5)]) / 2 for at in extents}


def bezier(start: Box, end: Box, vertical: bool) -> list[tuple[float, float]]:
    """Four points of a curve between two boxes. Along the flow it leaves and arrives straight."""
    dx, dy = end.x - start.x, end.y - start.y
    across = abs(dx) > (start.width + end.width) / 2
    down = abs(dy) > (start.height + end.height) / 2
    if (vertical and down) or not across:
        sign = 1 if dy > 0 else -1
        x1, y1 = start.x, start.y + sign * start.height / 2
        x2, y2 = end.x, end.y - sign * end.height / 2
        return [(x1, y1), (x1, (y1 + y2) / 2), (x2, (y1 + y2) / 2), (x2, y2)]
    sign = 1 if dx > 0 else -1
    x1, y1 = start.x + sign * start.width / 2, start.y
    x2, y2 = end.x - sign * end.width / 2, end.y
    return [(x1, y1), ((x1 + x2) / 2, y1), ((x1 + x2) / 2, y2), (x2, y2)]


def layout(entry: dict[str, Any], form: str) -> Drawing:
    """Place the nodes of a diagram, "wide" (from left to right) or "tall" (from top to bottom)."""
    vertical = form == "tall"
    nodes = entry["nodes"]
    at = {name: tuple(node["at"][::-1] if vertical else node["at"]) for name, node in nodes.items()}
    sizes = {name: size_of(node) for name, node in nodes.items()}
    middle = []
    for axis in (0, 1):
        extents: dict[float, float] = {}
        for name in nodes:
            place = at[name][axis]
            extents[place] = max(extents.get(place, 0), sizes[name][axis])
        middle.append(centres(extents, GAP[form][axis]))
    boxes = {n: Box(middle[0][at[n][0]], middle[1][at[n][1]], *sizes[n]) for n in nodes}
    left = min(b.x - b.width / 2 for b in boxes.values()) - MARGIN
    top = min(b.y - b.height / 2 for b in boxes.values()) - MARGIN
    boxes = {n: b._replace(x=b.x - left, y=b.y - top) for n, b in boxes.items()}
    curves = [(bezier(boxes[e["from"]], boxes[e["to"]], vertical), e) for e in edges_of(entry)]
    width = max(b.x + b.width / 2 for b in boxes.values()) + MARGIN
    height = max(b.y + b.height / 2 for b in boxes.values()) + MARGIN
    return Drawing(width, height, boxes, curves)


def edges_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The edges, from lines such as "x -> q -> z" ("=>" is new, "~>" new and dashed)."""
    found = []
    for line in entry["edges"]:
        parts = re.split(r"\s*(->|=>|~>)\s*", line)
        for start, arrow, end in zip(parts[::2], parts[1::2], parts[2::2], strict=False):
            found.append({"from": start, "to": end, "new": arrow != "->", "dashed": arrow == "~>"})
    return found


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def text_svg(line: str, x: float, y: float) -> str:
    """One centred line of text."""
    parts, shift = [], 0
    for text, shape, level, math in spans(line):
        move = {-1: 4, 0: 0, 1: -6}[level]
        names = [name for name, on in (("symbol", math), ("it", shape == "italic")) if on]
        names += ["script"] if level else []
        dy = f' dy="{move - shift}"' if move != shift else ""
        kind = f' class="{" ".join(names)}"' if names else ""
        parts.append(f"<tspan{kind}{dy}>{escape(text)}</tspan>" if kind or dy else escape(text))
        shift = move
    return f'<text x="{number(x)}" y="{number(y)}" xml:space="preserve">{"".join(parts)}</text>'


def pixels_svg(rows: list[str]) -> str:
    """An image as one path for each gray value, on a square of 28 by 28."""
    runs: dict[str, list[str]] = {}
    for y, row in enumerate(rows):
        for run in re.finditer(r"([1-9])\1*", row):
            n = len(run[0])
            runs.setdefault(run[1], []).append(f"M{run.start()} {y}h{n}v1h-{n}z")
    paths = (f'<path fill-opacity=".{int(v) * 11}" d="{"".join(d)}"/>' for v, d in runs.items())
    return f'<g class="pixels">{"".join(paths)}</g>'.replace('".99"', '"1"')


def grid_svg(lines: list[list[list[float]]]) -> str:
    """The lines of a grid, on the same square."""
    d = "".join(f"M{'L'.join(f'{number(x)} {number(y)}' for x, y in line)}" for line in lines)
    return f'<path class="grid" d="{d}"/>'


def picture_svg(names: str, x: float, y: float, pictures: dict[str, list]) -> str:
    """The pictures `names`, joined by " + ", one over the other, centred at x and below y."""
    parts, has_grid = [], False
    for name in names.split(" + "):
        rows = pictures[name]
        is_grid = not isinstance(rows[0], str)
        parts.append(grid_svg(rows) if is_grid else pixels_svg(rows))
        has_grid = has_grid or is_grid
    # A grid may lie outside the frame, so that a picture with one shows some room around it.
    view = "-5 -5 38 38" if has_grid else "0 0 28 28"
    frame = '<rect class="frame" width="28" height="28"/>'
    at = f'x="{number(x - PICTURE / 2)}" y="{number(y)}" width="{PICTURE}" height="{PICTURE}"'
    return f'<svg {at} viewBox="{view}">{frame}{"".join(parts)}</svg>'


def node_svg(node: dict[str, Any], box: Box, pictures: dict[str, list]) -> str:
    """A node: its box, its picture and its lines of text."""
    sheets = 2 * STACK * bool(node.get("stack"))  # those behind stand out at the top and right
    width, height = box.width - sheets, box.height - sheets
    left, top = box.x - box.width / 2, box.y - box.height / 2 + sheets
    middle, y = left + width / 2, top + PAD - 1
    shape = f'width="{number(width)}" height="{number(height)}" rx="{node.get("rx", 6)}"'
    parts = []
    for shift in range(sheets, -1, -STACK):
        place = f'x="{number(left + shift)}" y="{number(top - shift)}"'
        parts.append(f'<rect class="sheet" {place} {shape}/>' if sheets else "")
        parts.append(f'<rect class="node" {place} {shape}/>')
    numbers = node.get("badges", [])
    for i, badge in enumerate(numbers):
        x = middle + (i - (len(numbers) - 1) / 2) * 2.2 * BADGE
        at = f'x="{number(x)}" y="{number(y + BADGE + 4.2)}"'
        parts.append(
            f'<circle class="mark" cx="{number(x)}" cy="{number(y + BADGE)}" r="{BADGE}"/>'
            f'<text class="mark-text" {at}>{badge}</text>'
        )
    y += (2 * BADGE + 4) * bool(numbers)
    if node.get("picture"):
        parts.append(picture_svg(node["picture"], middle, y, pictures))
        y += PICTURE + 4
    for line in node["text"]:
        parts.append(text_svg(line, middle, y + 14))
        y += LINE
    return f'<g class="{"new" if node.get("new") else "old"}">{"".join(parts)}</g>'


def edge_svg(points: list[tuple[float, float]], edge: dict[str, Any]) -> str:
    """A curve with a tip."""
    kind = "new" if edge["new"] else "old"
    (_, _), _, (cx, cy), (x, y) = points
    length = ((x - cx) ** 2 + (y - cy) ** 2) ** 0.5
    ux, uy = (x - cx) / length, (y - cy) / length
    bx, by = x - 8 * ux, y - 8 * uy
    start, first, second = (f"{number(a)} {number(b)}" for a, b in points[:3])
    dash = ' stroke-dasharray="5 4"' if edge["dashed"] else ""
    tip = " ".join(
        f"{number(a)},{number(b)}"
        for a, b in ((x, y), (bx - 4 * uy, by + 4 * ux), (bx + 4 * uy, by - 4 * ux))
    )
    curve = f"M{start}C{first} {second} {number(bx)} {number(by)}"
    return (
        f'<path class="{kind} edge" d="{curve}"{dash}/><polygon class="{kind} tip" points="{tip}"/>'
    )


def svg(entry: dict[str, Any], form: str, pictures: dict[str, list]) -> str:
    """The whole drawing, with its alt text."""
    drawing = layout(entry, form)
    width, height = (round(v + 0.5) for v in (drawing.width, drawing.height))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="diagram {form}" role="img" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'aria-label="{escape(entry["alt"])}">',
        f"<style>{STYLE}</style>",
        f'<rect class="sheet backdrop" width="{width}" height="{height}" rx="6"/>',
        *(edge_svg(*curve) for curve in drawing.curves),
        *(node_svg(node, drawing.boxes[n], pictures) for n, node in entry["nodes"].items()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def read_table() -> dict[str, dict[str, Any]]:
    """The diagrams by chapter ("03"); the nodes of `like` come first, and may be changed."""
    raw = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    done: dict[str, dict[str, Any]] = {}
    for chapter, entry in raw.items():
        base = done[entry["like"]] if "like" in entry else {"nodes": {}, "edges": []}
        nodes = {name: {**node, "new": False} for name, node in base["nodes"].items()}
        for name, node in entry.get("nodes", {}).items():
            nodes[name] = {**nodes.get(name, {"new": False}), **node}
        entry["nodes"] = {n: {**node, "text": list(node["text"])} for n, node in nodes.items()}
        entry["edges"] = entry.get("edges") or base["edges"]
        entry["alt"] = " ".join(entry["alt"].split())
        done[chapter] = entry
    return done


def drawings() -> dict[Path, str]:
    """The content of every SVG."""
    pictures = json.loads(PICTURES.read_text(encoding="utf-8"))
    return {
        FOLDER / f"{chapter}{end}.svg": svg(entry, form, pictures)
        for chapter, entry in read_table().items()
        for form, end in (("wide", ""), ("tall", "-tall"))
    }


def address(chapter: str) -> str:
    """Where Colab finds a diagram: in the repository, as of the release."""
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    folder = FOLDER.relative_to(ROOT).as_posix()
    return f"{repository['url'].rstrip('/')}/raw/{repository['branch']}/{folder}/{chapter}.svg"


def with_diagram(text: str, chapter: str, entry: dict[str, Any]) -> str:
    """The notebook `text` with the cell `diagram` below the title and what the chapter is about."""
    notebook = nbformat.reads(text, as_version=4)
    cells = [cell for cell in notebook.cells if cell.id != "diagram"]
    source = f"![{entry['alt']}]({address(chapter)})\n\n*{entry['caption']}*"
    cells.insert(2, nbformat.v4.new_markdown_cell(source, id="diagram"))
    notebook.cells = cells
    return nbformat.writes(notebook) + "\n"


def contents() -> dict[Path, str]:
    """What every written file should contain."""
    found = drawings()
    for chapter, entry in read_table().items():
        for path in (ROOT / "notebooks").glob(f"{chapter}_*.ipynb"):
            found[path] = with_diagram(path.read_text(encoding="utf-8"), chapter, entry)
    return found


def main() -> None:
    write_or_check(__doc__, lambda: contents().items(), ROOT, "diagrams")


if __name__ == "__main__":
    main()
