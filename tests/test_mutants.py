"""The planted mistakes of tools/mutants.py still fit the code, and the table tells of them all."""

import csv
import re
from pathlib import Path

import mutants
import pytest

TESTS = Path(__file__).parent


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda m: f"{m.module}, {m.what}")
def test_a_mutant_has_its_place(mutant):
    code = (mutants.ROOT / "tvae_core" / f"{mutant.module}.py").read_text()
    assert code.count(mutant.right) == 1
    assert mutant.right != mutant.wrong


def test_every_mutant_is_caught_by_a_test_that_exists():
    head, *rows = csv.reader(mutants.TABLE.open(newline=""))
    assert tuple(head) == mutants.HEAD
    assert [row[:2] for row in rows] == [[m.module, m.what] for m in mutants.MUTANTS], (
        "make mutants"
    )
    for _, what, caught in rows:
        found = re.fullmatch(r"`(\w+\.py)::(\w+)`", caught)
        assert found, f"{what}: {caught}"
        assert f"def {found[2]}(" in (TESTS / found[1]).read_text(), caught
