"""The mistakes in tools/mutants.yaml fit the code, each room has some, and a test catches each."""

import queue
import re
from collections import Counter
from pathlib import Path

import mutants
import pytest

ROOT, TESTS = mutants.ROOT, Path(__file__).parent
LISTED = mutants.listed()
# Modules in which there is hardly anything to get wrong.
EMPTY = ("__init__.py", "__main__.py", "align.py", "measure.py", "reproduce.py")


def test_the_code_that_a_mistake_replaces_occurs_exactly_once():
    text = {
        file: (ROOT / file).read_text(encoding="utf-8")
        for file in {mutant.file for mutant in LISTED}
    }
    assert not [m.key for m in LISTED if text[m.file].count(m.right) != 1]
    assert not [m.key for m in LISTED if m.right == m.wrong]
    assert len({mutant.key for mutant in LISTED}) == len(LISTED)
    assert len({(mutant.file, mutant.right, mutant.wrong) for mutant in LISTED}) == len(LISTED)


def test_every_mistake_is_caught_by_a_test_that_exists():
    assert [row[:3] for row in mutants.table()] == [mutant.key for mutant in LISTED], (
        "the table is out of date: run make mutants"
    )
    for *_, what, caught in mutants.table():
        found = re.fullmatch(r"`([\w/]+\.py)::(\w+)`", caught)
        assert found, f"{what}: {caught}"
        assert f"def {found[2]}(" in (TESTS / found[1]).read_text(encoding="utf-8"), caught


def test_at_least_five_mistakes_are_planted_in_every_module():
    planted = Counter(mutant.file for mutant in LISTED)
    core = [path for path in ROOT.glob("tvae_core/*.py") if path.name not in EMPTY]
    folders = ("tvae_core/experiments", "tvae_core/own", "tools/tables")
    wings = [path for folder in folders for path in ROOT.glob(f"{folder}/*.py")]
    for path in [*core, *(path for path in wings if path.name not in EMPTY[:2])]:
        assert planted[str(path.relative_to(ROOT))] >= 5, path
    rooms = Counter(mutant.room for mutant in LISTED)
    assert min(rooms.values()) >= 5
    assert rooms["explorer"] >= 15


CODE = "def half(x):\n    return x / 2\n"
TEST = "import code_of\n\ndef test_{}():\n    assert code_of.half({}) == {}\n"


@pytest.fixture
def copy(tmp_path):
    """A repository of one function and two tests, of which only the second can tell 2 from 4."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "code_of.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "tests" / "test_zero.py").write_text(TEST.format("zero", 0, 0), encoding="utf-8")
    (tmp_path / "tests" / "test_two.py").write_text(TEST.format("two", 2, 1), encoding="utf-8")
    return tmp_path


def planted(copy: Path, right: str, wrong: str, *tests: str) -> str:
    mistake = mutants.Mutant("room", "code_of.py", "a mistake", right, wrong, tests)
    copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
    copies.put(copy)
    try:
        return mutants.caught_by(copies, mistake)
    finally:
        assert (copy / "code_of.py").read_text(encoding="utf-8") == CODE
        assert copies.get_nowait() == copy


needs_fork = pytest.mark.skipif(not mutants.FORKS, reason="needs processes that fork")


@needs_fork
def test_a_planted_mistake_is_undone_and_the_first_test_that_fails_is_named(copy, monkeypatch):
    both = ("test_zero.py", "test_two.py")
    assert mutants.first_failure(copy, both) == mutants.NOTHING
    assert planted(copy, "x / 2", "x / 4", *both) == "`test_two.py::test_two`"
    assert planted(copy, "x / 2", "x + 2", *both) == "`test_zero.py::test_zero`"
    assert planted(copy, "x / 2", "x / 4", "test_zero.py") == mutants.NOTHING
    monkeypatch.setattr(mutants, "LIMIT", 1)
    found = planted(copy, "return", "while True: x -= 1\n    return", "test_two.py")
    assert found == "nothing within 1 s"


def test_code_that_occurs_twice_is_not_replaced(copy):
    assert planted(copy, "x", "y", "test_two.py") == "nothing: the right code occurs 2 times"
