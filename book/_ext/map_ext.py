"""The map of the book: each chapter with its minutes and what it needs, read from the notebooks.

<div data-map="The study: 1 to 7"></div>      a heading, and the chapters from one to another
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from sphinx.application import Sphinx

from tvae_core.questions import QUESTIONS

PLACE = re.compile(r'<div data-map="([^":]+): (\d+) to (\d+)"></div>')
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


class Chapter(NamedTuple):
    number: int
    file: str
    title: str
    minutes: int
    needs: list[int]


def chapter(path: Path) -> Chapter:
    """A chapter, as its first lines describe it.

    Raises:
        ValueError: they do not say how long it takes to read.
    """
    text = next(
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
    )
    minutes = re.search(r"\*\*Time:\*\*\s+(\d+)\s+minutes\s+of\s+reading", text)
    if not minutes:
        raise ValueError(f"{path.name}: no '**Time:** ... minutes of reading' in its first lines")
    needs = re.search(r"\*\*You need\*\*(.*?)\*\*Time", text, re.DOTALL)
    title = re.search(r"(?m)^# (.*)", text)
    number = int(path.stem[:2])
    return Chapter(
        number, path.stem, title[1], int(minutes[1]), numbers(needs[1], number) if needs else []
    )


def numbers(text: str, below: int) -> list[int]:
    """The chapters that a text names, such as "chapters 1 to 3, and chapter 5"."""
    found: set[int] = set()
    for named in re.findall(r"chapters?\s+((?:\d+(?:,\s+|\s+and\s+|\s+to\s+)?)+)", text):
        for first, last in re.findall(r"(\d+)(?:\s+to\s+(\d+))?", named):
            found |= {*range(int(first), int(last or first) + 1)}
    return sorted(n for n in found if n < below)


def chapters() -> list[Chapter]:
    return [chapter(path) for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))]


def part(title: str, shown: list[Chapter], link: Any) -> str:
    """A part of the book as a list of cards."""
    cards = []
    for each in shown:
        first, last = each.needs[:1], each.needs[-1:]
        run = each.needs and each.needs == [*range(first[0], last[0] + 1)] and len(each.needs) > 2
        needs = f"{first[0]} to {last[0]}" if run else ", ".join(map(str, each.needs))
        asked = len(QUESTIONS.get(f"{each.number:02}", []))
        cards.append(
            f'<li><a href="{link(f"notebooks/{each.file}")}"><b>{each.number}</b> '
            f"{html.escape(each.title)}</a> <span>{each.minutes} minutes</span> "
            + (f"<span>needs {needs}</span> " if needs else "<span>needs no other chapter</span> ")
            + (
                f'<span data-answered-in="{each.number:02}" data-of="{asked}"></span>'
                if asked
                else ""
            )
            + "</li>"
        )
    minutes = sum(each.minutes for each in shown)
    hours = f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{minutes} minutes"
    return (
        f'<div class="book-map"><p class="part"><strong>{html.escape(title)}</strong> '
        f"<span>{hours}</span></p><ol>{''.join(cards)}</ol></div>"
    )


def complete(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the parts where the page has places for them."""

    def filled(found: re.Match[str]) -> str:
        shown = [c for c in every if int(found[2]) <= c.number <= int(found[3])]
        return part(found[1], shown, context["pathto"])

    if "data-map=" in context.get("body", ""):
        every = chapters()
        context["body"] = PLACE.sub(filled, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", complete, priority=400)  # before scripts are chosen
    return {"parallel_read_safe": True, "parallel_write_safe": True}
