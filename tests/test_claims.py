"""What the pages say is what the records say, or what the papers say that they cite."""

import contextlib
import io
import json
import re

import pytest
from claims import (
    book,
    chapter_4,
    chapter_5,
    chapter_6,
    chapter_7,
    chapter_8,
    chapter_11,
    chapter_12,
    chapter_13,
    chapters_1_to_3,
    chapters_9_and_10,
    results_page,
)
from claims.literature import PLACES
from claims.page import FILES, ROOT, Page

from tvae_core import training
from tvae_core.experiments import PROFILES
from tvae_core.experiments.results import record_of
from tvae_core.experiments.runner import _summary

ROOMS = (
    book,
    results_page,
    chapters_1_to_3,
    chapter_4,
    chapter_5,
    chapter_6,
    chapter_7,
    chapter_8,
    chapters_9_and_10,
    chapter_11,
    chapter_12,
    chapter_13,
)
CLAIMS = {name: claims for room in ROOMS for name, claims in room.CLAIMS.items()}


@pytest.mark.parametrize("name", FILES)
def test_what_a_page_says_of_results_is_what_the_records_say(name):
    page = Page(name)
    CLAIMS.get(name, lambda page: None)(page)
    unguarded = [*page.unguarded()]
    assert not unguarded, "claim these in tests/claims, or cut them:\n" + "\n".join(unguarded)


def test_the_settings_that_pages_name_are_those_of_the_records():
    """The guard passes over "seed 0", "2,000 test images" and the like, which this test holds."""
    for name in (
        f"{model}-{objective}" for model in ("plain", "tps") for objective in ("vae", "iwae5")
    ):
        record = record_of(name)
        assert (record.seed, record.data["test"]["n"], record.nll_ks[-1]) == (0, 2_000, 5_000)
        assert (record.config["epochs"], record.config["k"]) == (50, 5 if "5" in name else 1)
    assert PROFILES["paper"].nll_samples == 5_000


def bibliography() -> dict[str, tuple[str, str, str]]:
    """The key, the first author's surname and the year behind each link of references.bib."""
    found = {}
    for entry in f"\n{(ROOT / 'book' / 'references.bib').read_text(encoding='utf-8')}".split("\n@")[
        1:
    ]:
        field = dict(re.findall(r"(\w+) = \{(.*)\},?\n", entry))
        link = field.get("url") or f"https://doi.org/{field['doi']}"
        surname = field["author"].split(",")[0].strip("{}")
        found[link] = entry.split("{")[1].split(",")[0], surname, field.get("year", "")
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_citation_names_the_author_the_year_and_the_place(name):
    """Figures that are quoted are claims: tests/claims/literature.py holds them."""
    text, known, read = Page(name).text, bibliography(), set()
    place = r"(?:eq\.|section|table|theorem) \d+(?:\.\d+)?"
    for cited, link in re.findall(r"\[([^]]*\d{4})\]\(([^)]*)\)", text):
        _, surname, year = known[link]
        assert cited.startswith(surname), f"{cited} is by {surname}"
        assert cited.endswith(f" {year}"), f"{cited} is of {year}"
        read.add((cited, link))
    by_name = {cited: known[link][0] for cited, link in read}
    for cited, where in re.findall(
        rf"([A-Z][\w& .-]+?\d{{4}})(?:\]\([^)]*\))?,? \(?({place})", text
    ):
        key = by_name.get(cited.strip()) or next(
            k for k, s, y in known.values() if cited.split()[0] == s
        )
        assert where in PLACES[key], f"{where} of {cited}"


def test_every_place_in_a_paper_is_quoted_somewhere():
    text = "\n".join(Page(name).text for name in FILES)
    assert all(where in text for places in PLACES.values() for where in places)


def logged(cell: dict) -> list[str]:
    """The lines that a cell printed."""
    lines = "".join("".join(o.get("text", "")) for o in cell["outputs"]).splitlines()
    return [line for line in lines if line]


def log_of(name: str) -> list[str]:
    """What `experiments.run` prints when it loads the book's run."""
    record = record_of(name)
    every = training.print_every(len(record.curves))
    rows = record.curves[every - 1 :: every]
    return [*map(training.describe, rows), _summary(record)]


NOTEBOOKS = [name for name in FILES if re.match(r"\d\d_", name)]


def test_outputs_that_nbval_ignores_are_those_of_the_records(subtests):
    trained = 0
    for name in NOTEBOOKS:
        for cell in json.loads(FILES[name].read_text(encoding="utf-8"))["cells"]:
            ignored = "nbval-ignore-output" in cell["metadata"].get("tags", [])
            if not ignored or not (lines := logged(cell)):
                continue
            with subtests.test(name, cell=cell["id"]):
                if "experiments.run(" not in "".join(cell["source"]):
                    handmade(lines, name, cell["id"])
                    continue
                profile, (head, *rest) = PROFILES["paper"], lines
                assert head.startswith(
                    f"profile paper: {profile.n_train:,} training and 2,000 test images of "
                    f"{profile.dataset} on CPU, "
                )
                loaded = re.compile(r"(\S+): loaded from \1-paper-seed0-[0-9a-f]{8}")
                names = re.findall(r"(?m)^(\S+): recon", "\n".join(rest))
                expected = [line for name in names for line in log_of(name)]
                assert [line for line in rest if not loaded.fullmatch(line)] == expected
                trained += len(names)
    assert trained == 16


def handmade(lines: list[str], chapter: str, cell: str) -> None:
    """Chapter 1's own model has no record: its three epochs, run again, come out within a nat."""
    cells = {
        c["id"]: "".join(c["source"])
        for c in json.loads(FILES[chapter].read_text(encoding="utf-8"))["cells"]
    }
    again = io.StringIO()
    with contextlib.redirect_stdout(again):
        exec("\n".join(cells[name] for name in ("c02", "c08", cell)), {})
    pattern = r"epoch (\d): -ELBO of the last batch (\d+\.\d) nats"
    printed, ours = (re.findall(pattern, text) for text in ("\n".join(lines), again.getvalue()))
    assert len(lines) == len(printed) == len(ours) == 3
    for (epoch, loss), (i, expected) in zip(printed, ours, strict=True):
        assert epoch == i
        assert float(loss) == pytest.approx(float(expected), abs=1)
