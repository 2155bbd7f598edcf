"""What a page says of the book's results, sentence by sentence.

A claim is a phrase of the page, with its numbers filled in from the records, and what must hold for
its words to be true. The guard finds the numbers and comparisons that no claim covers.
"""

import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *ROOT.glob("book/*.md"), *ROOT.glob("notebooks/*.ipynb")]
FILES = {path.stem: path for path in sorted(PAGES)}
WORDS = [
    *("no", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
]

_COUNT = "|".join(WORDS[2:])
_NUMBER = (
    rf"[+-]?\d[\d,.]*(?<![,.])|\b(?:{_COUNT}|twenty|forty|fifty|sixty|hundreds?|thousands?|dozens?"
    r"|half|halves|thirds?|quarters?|(?:fif|seven|eigh|nin|ten)ths?|twice|\w+fold)\b"
)
_ORDER = (
    r"\b(?:ahead|behind|better|worse|best|worst|more|less|fewer|most|least|larger|largest|smaller"
    r"|smallest|higher|highest|lower|lowest|ris[ei]\w*|fall\w*|gain\w*|lose\w*|level|beat\w*|faster"
    r"|slower|steep\w*|grow\w*|shrink\w*|leads?|hardly|nearly|few|many|several|beyond)\b"
)
# A sentence with one of these words speaks of results.
_RESULT = (
    r"\b(?:nats?|NLLs?|ELBO|recon|reconstruction loss(?:es)?|KL|ESS|effective sample size|luck|seeds?"
    r"|runs|latents? (?:in use|more)|per cent|minutes?|seconds|hours|times as|MB|correlation)\b|%"
)
# Questions and plans assert nothing.
_QUESTION = r"\W*(?:Predict|You will|You need)\b|\W*Time\W+\d+ minutes of reading|.*\?\W*$"
# Formulas, code, links, and years and places in papers (which `test_claims.py` holds). Then settings
# that are the same in all of the book, as a test there holds: another number would be read.
_UNREAD = (
    r"\$[^$]*\$|`[^`]*`|\]\([^)]*\)|\{[\w:]+\}|[Cc]hapters? \d+(?:(?:,| and| to) \d+)*|^\| \d+ \[|[a-z.] \d{4}\b"
    r"|(?:eq\.|[Ss]ection|table|theorem) \d[\d.]*"
    r"|(?:[Hh]ow|as|so|that) many|(?:the|The|these|those|their|between|other|of) (?:two|three)\b"
    r"|\bseed 0\b|2,000 test images|NLL\(5,?000\)|float\d+|SHA\d+|\b(?:NLL-)?5,000(?: (?:importance |weighted )?(?:samples|draws))?\b"
    r"|\bfive draws\b|\b50 epochs\b"
)


def _text(path: Path) -> str:
    if path.suffix == ".md":
        text = path.read_text(encoding="utf-8").replace("```{glossary}", "")
        text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", text, flags=re.DOTALL)
        return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append("".join(cell["source"]))
        for words in cell["metadata"].get("mystnb", {}).values():
            parts += [words[key] for key in ("caption", "alt") if key in words]
    return "\n\n".join(parts)


class Page:
    """The prose of a page, a block of it on each line, with the captions and texts of figures."""

    def __init__(self, name: str) -> None:
        self.name, self.path = name, FILES[name]
        text = re.sub(r"\$\$.*?\$\$", "", _text(self.path), flags=re.DOTALL)
        blocks = re.split(r"\n\s*\n|\n(?=[-|] |\d+\. )", text)
        self.text = "\n".join(" ".join(block.split()) for block in blocks)
        self.covered: set[int] = set()

    def says(self, phrase: str, *holds: object) -> None:
        """The phrase stands on the page, and what it says holds."""
        self.leaves(phrase)
        assert all(map(bool, holds)), f"{self.name}: by the records it is not true: {phrase}"

    def leaves(self, *phrases: str) -> None:
        """The phrases stand on the page and state no result: settings, theory, plans."""
        for phrase in phrases:
            found = [*re.finditer(re.escape(" ".join(phrase.split())), self.text)]
            assert found, f"{self.name} does not say: {phrase}"
            for match in found:
                self.covered |= {*range(*match.span())}

    def unguarded(self) -> Iterator[str]:
        """Numbers and comparisons in sentences about results that no phrase covers."""
        for sentence in re.finditer(r".+?(?:(?<! al)[.?!](?=\W* )|\n|$)", self.text):
            said, start = sentence.group().strip(), sentence.start()
            start += sentence.group().index(said) if said else 0
            if not re.search(_RESULT, said) or re.match(_QUESTION, said):
                continue
            unread = {i for m in re.finditer(_UNREAD, said) for i in range(*m.span())}
            for figure in re.finditer(f"{_NUMBER}|{_ORDER}", said):
                where = {*range(*figure.span())}
                if not where <= unread and not {start + i for i in where} <= self.covered:
                    yield f"{figure.group()!r} in: {said}"

    def printed(self, pattern: str) -> list[float]:
        """The numbers, "#" in a pattern, of all printed lines that it matches, in their order.

        nbval compares what a chapter prints with what its cells compute.
        """
        lines = [
            text for cell in self._cells for o in cell["outputs"] for text in o.get("text", ())
        ]
        return _numbers(pattern, "".join(lines))

    def asserted(self, pattern: str) -> list[float]:
        """The same for the code of a chapter, whose assertions nbval runs."""
        return _numbers(pattern, self.code)

    @property
    def code(self) -> str:
        """The code of a chapter, whose assertions nbval runs."""
        return "\n".join("".join(cell["source"]) for cell in self._cells)

    @cached_property
    def _cells(self) -> list[dict]:
        cells = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        return [cell for cell in cells if cell["cell_type"] == "code"]


def _numbers(pattern: str, text: str) -> list[float]:
    number = r"\s*([+-]?\d[\d,_]*(?:\.\d+)?(?:e[+-]\d+)?)"
    found = re.findall(pattern.replace(" #", "#").replace("#", number), text)
    assert found, f"nothing like: {pattern}"
    values = [
        value for match in found for value in (match if isinstance(match, tuple) else (match,))
    ]
    return [float(value.replace(",", "").replace("_", "")) for value in values]


def word(x: float) -> str:
    """A number rounded to an integer, as a word."""
    return WORDS[round(x)]
