"""The table of mistakes planted by `make mutants`, from the list of what caught each."""

import csv

from .base import RESULTS, Table

NOBODY = "nothing"  # as tools/mutants.py writes it


def planted_table() -> Table:
    """For each room: how many mistakes were planted and caught, and by how many tests."""
    with (RESULTS / "mutants.csv").open(newline="", encoding="utf-8") as file:
        planted = list(csv.DictReader(file))
    rooms = dict.fromkeys(row["room"] for row in planted)
    rows = [["part", "planted", "caught", "by how many tests"]]
    for room in rooms:
        rows.append([room, *_counts([row for row in planted if row["room"] == room])])
    rows.append(["all", *_counts(planted)])
    return Table("Planted mistakes by part of the repository.", rows, [])


def _counts(planted: list[dict[str, str]]) -> list[str]:
    tests = [row["caught by"] for row in planted if not row["caught by"].startswith(NOBODY)]
    return [str(len(planted)), str(len(tests)), str(len(set(tests)))]


TABLES = {"planted": planted_table}
