"""The planted mistakes of tools/mutants.py still fit the code, and the table lists all of them."""

import csv
import re
from pathlib import Path

import mutants

TESTS = Path(__file__).parent


def test_the_code_that_a_mutant_replaces_occurs_exactly_once(subtests):
    for mutant in mutants.MUTANTS:
        with subtests.test(f"{mutant.module}, {mutant.what}"):
            code = (mutants.ROOT / "tvae_core" / f"{mutant.module}.py").read_text(encoding="utf-8")
            assert code.count(mutant.right) == 1
            assert mutant.right != mutant.wrong


def test_every_mutant_is_caught_by_a_test_that_exists():
    head, *rows = csv.reader(mutants.TABLE.read_text(encoding="utf-8").splitlines())
    assert tuple(head) == mutants.HEAD
    planted = [[mutant.module, mutant.what] for mutant in mutants.MUTANTS]
    assert [row[:2] for row in rows] == planted, "the table is out of date: run make mutants"
    for _, what, caught in rows:
        found = re.fullmatch(r"`(\w+\.py)::(\w+)`", caught)
        assert found, f"{what}: {caught}"
        assert f"def {found[2]}(" in (TESTS / found[1]).read_text(encoding="utf-8"), caught
