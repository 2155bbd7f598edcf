"""Plant one mistake at a time in a copy of the repository, and record which test catches it.

Usage: python tools/mutants.py [--only ROOM ...] [--new] [--workers N]

tools/mutants.yaml lists the mistakes by file, with the room that the file belongs to and the tests
that should catch them. Those run until the first one fails. Writes results/mutants.csv, lists the
mistakes that went unnoticed, and exits with 1 if there are any.
"""

import argparse
import csv
import multiprocessing
import os
import queue
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "results" / "mutants.csv"
HEAD = ("room", "file", "the mistake", "caught by")
NOTHING = "nothing"
LIMIT = 600  # seconds for the tests of one mistake; one that makes them hang has not been caught
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "_build", "*.egg-info")
FAILED = re.compile(r"^(?:FAILED|ERROR) tests/([^\s\[]+)", re.MULTILINE)  # without parameters
# Each run of tests is a fork of a process that has imported what takes long, but nothing of ours.
FORKS = "forkserver" in multiprocessing.get_all_start_methods()
PROCESSES = multiprocessing.get_context("forkserver" if FORKS else "spawn")


class Mutant(NamedTuple):
    """A piece of a file's code, which must occur exactly once, and the wrong code for it."""

    room: str
    file: str
    what: str
    right: str
    wrong: str
    tests: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        return self.room, self.file, self.what


def listed() -> list[Mutant]:
    """All mistakes, in the order of the list."""
    return [
        Mutant(part["room"], file, **mistake, tests=tuple(part["tests"]))
        for file, part in yaml.safe_load(
            (ROOT / "tools" / "mutants.yaml").read_text(encoding="utf-8")
        ).items()
        for mistake in part["mistakes"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mutants = listed()
    rooms = dict.fromkeys(mutant.room for mutant in mutants)
    parser.add_argument("--only", nargs="+", choices=rooms, metavar="ROOM", default=[*rooms])
    parser.add_argument("--new", action="store_true", help="only mistakes that the table lacks")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    given = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = "1"
    PROCESSES.set_forkserver_preload(["torch", "scipy.stats", "matplotlib.pyplot", "pandas"])
    found = {row[:3]: row[3] for row in table()}
    known = found if given.new else {}
    chosen = [each for each in mutants if each.room in given.only and each.key not in known]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(given.workers) as pool:
        original = shutil.copytree(ROOT, Path(scratch, "original"), ignore=NOT_COPIED)
        # These runs leave bytecode behind, which lets all later ones run in half the time.
        tests = {(name,) for mutant in chosen for name in mutant.tests}
        for failed in pool.map(partial(first_failure, original, bytecode=True), tests):
            if failed != NOTHING:
                sys.exit(f"{failed} fails without any mistake")
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for i in map(str, range(given.workers)):
            copies.put(shutil.copytree(original, Path(scratch, i)))
        for mutant, caught in zip(
            chosen, pool.map(partial(caught_by, copies), chosen), strict=True
        ):
            found[mutant.key] = caught
            print(*mutant.key, caught, sep=" | ", flush=True)
    rows = [(*mutant.key, found.get(mutant.key, NOTHING)) for mutant in mutants]
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])
    if missed := [" | ".join(row) for row in rows if row[3].startswith(NOTHING)]:
        sys.exit("\n".join([f"\n{len(missed)} of {len(rows)} mistakes went unnoticed:", *missed]))


def table() -> list[tuple[str, ...]]:
    """The rows of results/mutants.csv, without its head."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def caught_by(copies: queue.SimpleQueue[Path], mutant: Mutant) -> str:
    """The first test that fails with the mistake in a free copy, where it is then undone."""
    copy = copies.get()
    path = copy / mutant.file
    right, made = path.read_text(encoding="utf-8"), path.stat().st_mtime_ns
    try:
        if (found := right.count(mutant.right)) != 1:
            return f"{NOTHING}: the right code occurs {found} times"
        path.write_text(right.replace(mutant.right, mutant.wrong), encoding="utf-8")
        return first_failure(copy, mutant.tests)
    finally:
        path.write_text(right, encoding="utf-8")
        os.utime(path, ns=(made, made))  # as old as its bytecode says
        copies.put(copy)


def first_failure(copy: Path, tests: tuple[str, ...], bytecode: bool = False) -> str:
    """The first test that fails in a copy, or NOTHING."""
    with tempfile.NamedTemporaryFile("r") as log:
        run = PROCESSES.Process(target=run_tests, args=(copy, tests, bytecode, log.name))
        run.start()
        run.join(LIMIT)
        if run.exitcode is None:
            run.kill()
            run.join()
            return f"{NOTHING} within {LIMIT} s"
        printed = log.read()
    if run.exitcode == 0:
        return NOTHING
    failed = FAILED.search(printed)
    return f"`{failed[1]}`" if failed else f"{NOTHING}: {printed[-1000:]}"


def run_tests(copy: Path, tests: tuple[str, ...], bytecode: bool, log: str) -> None:
    """Run tests in this process until one fails; the exit code is 0 if none does."""
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    sys.path[:] = [str(copy), *(p for p in sys.path if Path(p) not in (ROOT, ROOT / "tools"))]
    sys.dont_write_bytecode = not bytecode
    os.environ["PYTHONPATH"] = str(copy)  # for the processes that tests start
    options = ["-o", "addopts=", "-x", "-q", "-rfE", "-p", "no:cacheprovider"]
    sys.exit(pytest.main([*options, *(f"tests/{name}" for name in tests)]))


if __name__ == "__main__":
    main()
