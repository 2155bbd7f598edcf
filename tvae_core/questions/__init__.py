"""Questions at the end of each chapter, asked and graded in the notebook and on the page.

    questions.ask("03")             # the questions of chapter 3, each with its answer folded
    questions.check("03.1", 1.5)    # is it right? If not: a hint

questions.json holds them. In the rendered book the script book/static/questions.js reads what `ask`
has put on the page and lets a reader answer there.
"""

from __future__ import annotations

import html
import json
import re
from importlib import resources
from typing import Any, NamedTuple

from tvae_core.checks import check_known, checked

LETTERS = "abcdef"


class Question(NamedTuple):
    """A question: what is asked, what counts as right, and what is said after an answer."""

    id: str
    """The chapter and a number, such as "03.1"."""
    about: int
    """The chapter whose content it asks for."""
    kind: str
    """"number"; "choice", one letter; "order", the letters of all options in the right order; or
    "match", the turn in degrees, the scale and the two shifts of a grid that makes a target."""
    text: str
    answer: Any
    """A float, letters in a str, or for a match a list of four floats."""
    hint: str
    """Said after a wrong answer. It does not give the answer away."""
    why: str
    """Why the answer is right."""
    options: list[str] = []  # noqa: RUF012
    """What the letters a, b, c, ... stand for."""
    tolerance: Any = 0.0
    """By how much a number may be off, a float; or for a match each of the four, a list."""
    pictures: dict[str, dict[str, str]] = {}  # noqa: RUF012
    """For a match, the input and the target: each as a PNG in base64, with what it shows in words.

    The input also has its gray levels, a byte for each pixel: the page's script reads them, as
    some browsers let no script read a picture.
    """

    def grade(self, given: Any) -> bool:
        """Whether an answer is right.

        Raises:
            ValueError: this is no answer to a question of this kind. The message says what is.
        """
        if self.kind == "number":
            try:
                value = float(given)
            except (TypeError, ValueError):
                wanted = f"{self.id} wants a number, such as 4.2, got {given!r}"
                raise ValueError(wanted) from None
            return abs(value - float(self.answer)) <= self.tolerance + 1e-12  # as on the page
        if self.kind == "match":
            return self._matches(given)
        letters, wanted = LETTERS[: len(self.options)], "one letter"
        fits = str(given) in [*letters]
        if self.kind == "order":
            wanted, fits = "all letters in order", sorted(str(given)) == [*letters]
        if not fits:
            raise ValueError(f"{self.id} wants {wanted} of {', '.join(letters)}, got {given!r}")
        return given == self.answer

    def _matches(self, given: Any) -> bool:
        try:
            values = [] if isinstance(given, (str, bytes, dict, set)) else [float(v) for v in given]
        except (TypeError, ValueError):
            values = []
        if len(values) != len(self.answer):
            raise ValueError(
                f"{self.id} wants four numbers, such as [0, 1, 0, 0]: the grid's turn in degrees, "
                f"its scale, its shift along x and its shift along y; got {given!r}"
            )
        # The end of a tolerance counts, although 1.5 - 1.4 is a little more than 0.1.
        off = [abs(value - right) for value, right in zip(values, self.answer, strict=True)]
        return all(by <= most + 1e-12 for by, most in zip(off, self.tolerance, strict=True))


def _read() -> dict[str, list[Question]]:
    text = (resources.files("tvae_core") / "questions" / "questions.json").read_bytes()
    return {chapter: [Question(**q) for q in each] for chapter, each in json.loads(text).items()}


QUESTIONS = _read()
"""The questions of each chapter, by its number in two digits."""


class Asked:
    """Questions as HTML, readable without JavaScript. Plain text says how many there are."""

    def __init__(self, questions: list[Question]) -> None:
        self.questions = questions

    def __repr__(self) -> str:
        first, last = self.questions[0].id, self.questions[-1].id
        return f"{len(self.questions)} questions, {first} to {last}"

    def _repr_html_(self) -> str:
        chapter, _ = self.questions[0].id.split(".")
        inner = "\n".join(map(as_html, self.questions))
        return f'<div class="tvae-questions" data-chapter="{chapter}">\n{inner}\n</div>'


def _marked(text: str) -> str:
    """Text as HTML, with `code` as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))


def as_html(question: Question) -> str:
    """A question with what a script needs to grade it, and its answer folded."""
    said = str(question.answer)
    data = {"id": question.id, "kind": question.kind, "answer": said, "hint": question.hint}
    if question.kind in ("number", "match"):
        data["tolerance"] = str(question.tolerance)
    if question.kind == "match":
        data["levels"] = question.pictures["input"]["levels"]
        turn, scale, *shift = question.answer
        said = f"Turn {turn}°, scale {scale}, shift {shift[0]} along x and {shift[1]} along y"
    attributes = "".join(f' data-{name}="{html.escape(v)}"' for name, v in data.items())
    pictures = "".join(
        f'<figure><img src="data:image/png;base64,{each["png"]}" alt="{html.escape(each["alt"])}"'
        f' width="112" height="112"><figcaption>{name}</figcaption></figure>'
        for name, each in question.pictures.items()
    )
    options = "".join(f"<li>{_marked(option)}</li>" for option in question.options)
    if question.kind == "order":
        said = ", ".join(said)
    return (
        f'<div class="tvae-question"{attributes}>\n'
        f"<p><strong>{question.id}</strong> <em>(chapter {question.about})</em> "
        f"{_marked(question.text)}</p>\n"
        + (f'<ol type="a">{options}</ol>\n' if options else "")
        + (f'<div class="pictures">{pictures}</div>\n' if pictures else "")
        + f"<details><summary>Answer to {question.id}</summary>"
        f"<p><strong>{said}</strong>. {_marked(question.why)}</p></details>\n</div>"
    )


@checked
def ask(chapter: str) -> Asked:
    """The questions of a chapter, such as "03", for the end of a notebook's cell.

    Raises:
        ValueError: there is no such chapter. The message lists the known ones.
    """
    check_known("chapter", chapter, QUESTIONS)
    return Asked(QUESTIONS[chapter])


@checked
def check(question: str, given: Any) -> None:
    """Print whether an answer is right, and why; or a hint, if it is not.

    Args:
        question: its number, such as "03.1".
        given: a number; or the letter of an option, "b"; or all letters in order, "bca"; or the
            turn in degrees, the scale and the shifts along x and y of a grid, [0, 1, 0, 0].

    Raises:
        ValueError: the question is unknown, or this is no answer to it. The message says what is.
    """
    known = {each.id: each for questions in QUESTIONS.values() for each in questions}
    check_known("question", question, known)
    asked = known[question]
    print(f"Right. {asked.why}" if asked.grade(given) else f"Not yet. {asked.hint}")
