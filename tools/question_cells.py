"""Give each chapter its questions: a section "Check yourself" right before the exercises.

    python tools/question_cells.py            # write
    python tools/question_cells.py --check    # exit with 1 if a chapter is out of date

tvae_core/questions/questions.json holds the questions. The cell that asks them is run here, so its
output is what a reader's own kernel would show, and the cells after it are counted on.
"""

from collections.abc import Iterator
from pathlib import Path

import nbformat
from derived import write_or_check
from nbformat import NotebookNode

from tvae_core.questions import QUESTIONS, ask

ROOT = Path(__file__).resolve().parents[1]
HEADING = "## Exercises"

TEXT = """\
## Check yourself

{about} In the rendered book you can answer
below each question. In a notebook, `questions.check("{first}", ...)` says whether an answer is
right. It takes a number, the letter of an option, or all letters in order, such as `"bca"`."""
MATCH = """ For
{id} it takes a list of four numbers, such as `[0, 1, 0, 0]`."""

CODE = """\
from tvae_core import questions

questions.ask("{chapter}")"""


def what_they_ask(chapter: str) -> str:
    """A sentence on the chapters that the questions of a chapter ask for."""
    abouts = sorted({question.about for question in QUESTIONS[chapter]})
    if len(abouts) == 1:
        return "These questions are about this chapter."
    return f"Some of these questions go back to chapter {abouts[0]}, the others are about this one."


def with_questions(notebook: NotebookNode, chapter: str) -> NotebookNode:
    """The notebook with the section in its place, and nothing else changed but the counts."""
    cells = [cell for cell in notebook.cells if cell.id not in ("check-yourself", "questions")]
    place = next(i for i, cell in enumerate(cells) if cell.source.startswith(f"{HEADING}\n"))
    first = QUESTIONS[chapter][0].id
    text = TEXT.format(about=what_they_ask(chapter), first=first)
    text += "".join(MATCH.format(id=q.id) for q in QUESTIONS[chapter] if q.kind == "match")
    code = nbformat.v4.new_code_cell(CODE.format(chapter=chapter), id="questions")
    shown = ask(chapter)
    code.outputs = [
        nbformat.v4.new_output(
            "execute_result",
            {"text/html": shown._repr_html_(), "text/plain": repr(shown)},
            execution_count=0,
        )
    ]
    code.metadata = {"tags": ["hide-input"]}
    cells[place:place] = [nbformat.v4.new_markdown_cell(text, id="check-yourself"), code]
    notebook.cells = cells
    for count, cell in enumerate((c for c in cells if c.cell_type == "code"), 1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    return notebook


def contents() -> Iterator[tuple[Path, str]]:
    """Each chapter with questions, and the text that its notebook should hold."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if (chapter := path.stem[:2]) in QUESTIONS:
            notebook = nbformat.read(path, as_version=4)
            yield path, nbformat.writes(with_questions(notebook, chapter)) + "\n"


def main() -> None:
    write_or_check(__doc__, contents, ROOT, "questions")


if __name__ == "__main__":
    main()
